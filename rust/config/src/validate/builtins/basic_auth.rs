//! The payload of `BasicAuth`.

use http::HeaderValue;

use super::super::{
    fields,
    located::{find_file, warn_if_readable_by_all},
};

use crate::{
    kinds::Text,
    plan::{BasicAuth, BasicUsers},
    raw,
    report::Report,
    users::{self, PasswordHash, User},
};

pub(super) fn basic_auth(written: &raw::BasicAuth, report: &mut Report<'_>) -> Option<BasicAuth> {
    let users = users(written, report);
    let challenge = realm(written.realm.as_ref()?, report)
        .and_then(|realm| HeaderValue::from_str(&format!("Basic {realm}, charset=\"UTF-8\"")).ok());
    let user_header = fields::name(written.user_header.as_ref()?, report);
    let forward = written.forward_authorization.as_ref().is_some_and(|flag| flag.value);
    if forward && user_header.as_ref().is_some_and(|name| *name == http::header::AUTHORIZATION) {
        report.error(written.place, "`user_header` cannot be the header with the password");
    }
    Some(BasicAuth {
        users: users?,
        challenge: challenge?,
        user_header: user_header?,
        forward_authorization: forward,
    })
}

fn users(written: &raw::BasicAuth, report: &mut Report<'_>) -> Option<BasicUsers> {
    match (&written.users, &written.file) {
        (Some(_), Some(file)) => {
            report.error(file.0.place, "either `users` or a `file`, not both");
            None
        }
        (None, None) => {
            if !written.has("users") && !written.has("file") {
                report.error_help(
                    written.place,
                    "a `BasicAuth` needs `users` or a `file`",
                    "make a file with `htpasswd -cB users.htpasswd NAME`",
                );
            }
            None
        }
        (Some(list), None) => listed(list, written, report),
        (None, Some(file)) => {
            let path = find_file(&file.0.value, file.0.place, report)?;
            match users::read(&path) {
                Ok(found) => {
                    if found.is_empty() {
                        report.warn(file.0.place, format!("`{}` has no user", path.display()));
                    }
                    warn_if_readable_by_all(&path, file.0.place, report);
                    Some(BasicUsers::File(path))
                }
                Err(why) => {
                    report.error(file.0.place, why);
                    None
                }
            }
        }
    }
}

fn listed(list: &[raw::BasicUser], written: &raw::BasicAuth, report: &mut Report<'_>) -> Option<BasicUsers> {
    if list.is_empty() {
        report.warn(written.place, "the list of `users` is empty, so that nobody can log in");
    }
    let mut users: Vec<User> = Vec::new();
    let mut all = true;
    for user in list {
        let read = user.name.as_ref().zip(user.password.as_ref()).and_then(|(name, password)| {
            if !users::is_name(&name.value) {
                report.error(name.place, "the name of a user holds no `:` and no control character");
                return None;
            }
            if users.iter().any(|known| known.name == name.value) {
                report.error(name.place, format!("the user `{}` stands here twice", name.value));
                return None;
            }
            match PasswordHash::parse(&password.0.value) {
                Ok(hash) => Some(User { name: name.value.clone(), hash }),
                Err(what) => {
                    report.error(password.0.place, format!("the password of `{}` is {what}", name.value));
                    None
                }
            }
        });
        all &= read.is_some();
        users.extend(read);
    }
    all.then_some(BasicUsers::Listed(users))
}

/// `realm="..."`, for a challenge (RFC 9110, 11.6.1).
pub(super) fn realm(written: &Text, report: &mut Report<'_>) -> Option<String> {
    if written.value.chars().any(|c| c.is_control() || !c.is_ascii()) {
        report.error(written.place, "a realm is ASCII text without control characters");
        return None;
    }
    let quoted = written.value.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("realm=\"{quoted}\""))
}
