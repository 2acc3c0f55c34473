//! Who the gateway is to a broker, and how it knows the broker.
//!
//! Every file is read here once, so that a missing or broken one is told with its place before anything runs; the
//! plan keeps the paths, because the gateway reads them again at each connect.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::located::find_file;
use crate::{
    credentials,
    kinds::{EnvText, FlagOr, Text},
    plan::{Broker, BrokerAuth, BrokerTls, Secret},
    raw,
    report::Report,
    source::Place,
};

const ONE_WAY: &str = "either `user` and `password`, or a `token`, or an `nkey`, or `creds`";

/// The user that an address names.
pub(super) struct UrlUser {
    place: Place,
    auth: BrokerAuth,
}

impl UrlUser {
    /// `user:password`, or a token; both percent-encoded.
    pub(super) fn read(text: &str, place: Place, report: &mut Report<'_>) -> Option<UrlUser> {
        let decoded = |part: &str| percent_decode_str(part).decode_utf8().ok().map(|part| part.into_owned());
        let auth = match text.split_once(':') {
            Some((user, password)) => decoded(user)
                .zip(decoded(password))
                .map(|(user, password)| BrokerAuth::Password { user, password: Secret::new(password) }),
            None => decoded(text).map(|token| BrokerAuth::Token(Secret::new(token))),
        };
        if auth.is_none() {
            report.error(place, "the user in this address is not UTF-8");
        }
        Some(UrlUser { place, auth: auth? })
    }
}

/// Who the gateway is: as `auth` says, or as all addresses say.
pub(super) fn auth(
    written: Option<&raw::Auth>,
    in_urls: &[UrlUser],
    report: &mut Report<'_>,
) -> Option<BrokerAuth> {
    let Some(written) = written else {
        let Some(first) = in_urls.first() else { return Some(BrokerAuth::Anonymous) };
        if let Some(other) = in_urls.iter().find(|other| other.auth != first.auth) {
            report.error_help(
                other.place,
                "the addresses of one connection name different users",
                "write the user once, as `auth`",
            );
            return None;
        }
        return Some(first.auth.clone());
    };
    if let Some(user) = in_urls.first() {
        report.error(user.place, "either a user in the address or `auth`, not both");
    }
    let password = written.has("user") || written.has("password");
    let ways = [password, written.has("token"), written.has("nkey"), written.has("creds")];
    if ways.iter().filter(|way| **way).count() > 1 {
        let values = [&written.token, &written.nkey, &written.creds];
        let last = values.into_iter().flatten().next_back();
        report.error(last.map_or(written.place, |last| last.0.place), ONE_WAY);
        return None;
    }
    let secret = |text: &EnvText| Secret::new(text.0.value.clone());
    match ways {
        [true, ..] => match (&written.user, &written.password) {
            (Some(user), Some(password)) => {
                Some(BrokerAuth::Password { user: user.0.value.clone(), password: secret(password) })
            }
            _ if written.has("user") && written.has("password") => None,
            _ => {
                report.error(written.place, "`user` and `password` belong together");
                None
            }
        },
        [_, true, ..] => written.token.as_ref().map(|token| BrokerAuth::Token(secret(token))),
        [_, _, true, _] => {
            let path = secret_file(&written.nkey.as_ref()?.0, credentials::read_seed, report)?;
            Some(BrokerAuth::Nkey(path))
        }
        [_, _, _, true] => {
            let path = secret_file(&written.creds.as_ref()?.0, credentials::read_creds, report)?;
            Some(BrokerAuth::Creds(path))
        }
        _ => {
            report.error(written.place, format!("`auth` says nothing: it has {ONE_WAY}"));
            None
        }
    }
}

/// How TLS is spoken. The inner `None`: only where the server asks for it.
pub(super) fn tls(
    written: &raw::Messaging,
    broker: Option<&Broker>,
    report: &mut Report<'_>,
) -> Option<Option<BrokerTls>> {
    let in_urls = match broker {
        Some(Broker::Servers(servers)) => servers.iter().any(|server| server.starts_with("tls://")),
        Some(Broker::Embedded) | None => false,
    };
    let tls = match &written.tls {
        None if written.has("tls") => return None,
        None => in_urls.then(BrokerTls::default),
        Some(FlagOr::Flag(flag)) => (flag.value || in_urls).then(BrokerTls::default),
        Some(FlagOr::Section(section)) => {
            let on = section.enabled.as_ref().is_none_or(|enabled| enabled.value);
            let section = section_of(section, report)?;
            (on || in_urls).then_some(section)
        }
    };
    if tls.is_some() && broker == Some(&Broker::Embedded) {
        report.error(written.place, "the embedded server speaks no TLS: it listens on loopback only");
        return None;
    }
    Some(tls)
}

fn section_of(written: &raw::BrokerTls, report: &mut Report<'_>) -> Option<BrokerTls> {
    let ca_file = match &written.ca_file {
        Some(text) => Some(readable(&text.0, credentials::read_certificates, report)?),
        None if written.has("ca_file") => return None,
        None => None,
    };
    let identity = match (&written.cert, &written.key) {
        (Some(cert), Some(key)) => {
            let cert = readable(&cert.0, credentials::read_certificates, report);
            let key = secret_file(&key.0, credentials::read_key, report);
            Some((cert?, key?))
        }
        _ if written.has("cert") && written.has("key") => return None,
        (Some(one), None) | (None, Some(one)) => {
            report.error(one.0.place, "`cert` and `key` belong together");
            return None;
        }
        (None, None) if written.has("cert") || written.has("key") => return None,
        (None, None) => None,
    };
    let hostname = written.hostname.as_ref().map(|name| name.0.value.clone());
    if let Some(name) = &written.hostname
        && rustls_pki_types::ServerName::try_from(name.0.value.as_str()).is_err()
    {
        report.error(name.0.place, format!("`{}` is no host's name", name.0.value));
    }
    Some(BrokerTls { ca_file, identity, hostname })
}

/// A file that nobody else should read.
fn secret_file<T>(
    text: &Text,
    read: impl FnOnce(&Path) -> Result<T, String>,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let path = readable(text, read, report)?;
    if credentials::is_readable_by_all(&path) {
        let path = path.display();
        report.warn(text.place, format!("everybody on this machine can read `{path}`: `chmod 600` it"));
    }
    Some(path)
}

/// A file from which `read` gets what it wants.
fn readable<T>(
    text: &Text,
    read: impl FnOnce(&Path) -> Result<T, String>,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let path = find_file(&text.value, text.place, report)?;
    if let Err(why) = read(&path) {
        report.error(text.place, format!("the file `{}` {why}", path.display()));
        return None;
    }
    Some(path)
}
