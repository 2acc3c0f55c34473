//! `Redirect`: a target whose host no request can choose.
//!
//! A template at the wrong place of a URL lets whoever makes a link send people to any site under this one's name. So
//! the host of `to` is written out, and where a host depends on the request it is said so, in `host`.

use http::{StatusCode, uri::Authority};
use nylon_core::{Scheme, template::Template};

use crate::{
    kinds::Templated,
    plan::{Redirect, RedirectTarget},
    raw,
    report::Report,
};

const PARTS: [&str; 4] = ["scheme", "host", "port", "path"];

pub(super) fn redirect(written: &raw::Redirect, report: &mut Report<'_>) -> Option<Redirect> {
    let status = status(written, report);
    let parts = PARTS.iter().any(|key| written.has(key));
    let target = match (written.has("to"), parts) {
        (true, false) => written.to.as_ref().and_then(|to| whole(to, report)).map(RedirectTarget::Whole),
        (false, true) => self::parts(written, report),
        (true, true) => {
            report.error(
                written.place,
                "either `to`, the whole target, or parts of it: `scheme`, `host`, `port`, `path`",
            );
            None
        }
        (false, false) => {
            report.error_help(
                written.place,
                "a redirect needs a target",
                "write `to: https://a.example/`, or what changes: `scheme: https`",
            );
            None
        }
    };
    Some(Redirect {
        status: status?,
        target: target?,
        keep_query: written.keep_query.as_ref().is_none_or(|flag| flag.value),
    })
}

fn status(written: &raw::Redirect, report: &mut Report<'_>) -> Option<StatusCode> {
    let code = written.status?;
    if !matches!(code.value, 301 | 302 | 303 | 307 | 308) {
        report.error_help(
            code.place,
            format!("{} is no status of a redirect", code.value),
            "301 and 308 are for ever, 302, 303 and 307 for now; 307 and 308 keep the method",
        );
        return None;
    }
    StatusCode::from_u16(u16::try_from(code.value).ok()?).ok()
}

fn whole(to: &Templated, report: &mut Report<'_>) -> Option<Template> {
    // In its own spelling a template shows what is text and what is not.
    let text = to.value.to_string();
    let (fixed, then) = match to.value.constant() {
        Some(constant) => (constant, ""),
        None => text.split_at(text.find("${").unwrap_or(text.len())),
    };
    // A dollar before it would make it text.
    let by_path = !fixed.ends_with('$') && (then.is_empty() || then.starts_with("${request(path)}"));
    let safe = match fixed.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let is_web = matches!(scheme, "http" | "https");
            if !is_web
                || authority.is_empty()
                || authority.contains('@')
                || authority.parse::<Authority>().is_err()
            {
                let reason = format!("`{text}` is no URL that a client could be sent to");
                report.error_help(to.place, reason, "write `https://a.example/path`, or a path");
                return None;
            }
            authority.len() < rest.len() || by_path
        }
        None if fixed.is_empty() => by_path,
        None => fixed.starts_with('/') && !fixed.starts_with("//") && !fixed.starts_with("/\\"),
    };
    if !safe {
        report.error_help(
            to.place,
            "a request could choose the host that this leads to",
            "write the host out, with a `/` behind it, or begin with `/`; `host` takes a template",
        );
        return None;
    }
    Some(to.value.clone())
}

fn parts(written: &raw::Redirect, report: &mut Report<'_>) -> Option<RedirectTarget> {
    if let Some(host) = &written.host
        && let Some(text) = host.value.constant()
        && (text.parse::<Authority>().is_err() || text.contains('@'))
    {
        report.error(host.place, format!("`{text}` is no host"));
        return None;
    }
    if let Some(path) = &written.path
        && let Some(text) = path.value.constant()
        && !text.starts_with('/')
    {
        report.error_help(path.place, format!("`{text}` is no path"), "a path begins with `/`");
        return None;
    }
    if PARTS.iter().any(|key| written.has(key) && unread(written, key)) {
        return None;
    }
    Some(RedirectTarget::Parts {
        scheme: written.scheme.as_ref().map(|word| match word.value {
            raw::RedirectScheme::Http => Scheme::Http,
            raw::RedirectScheme::Https => Scheme::Https,
        }),
        host: written.host.as_ref().map(|host| host.value.clone()),
        port: written.port.and_then(|port| u16::try_from(port.value).ok()),
        path: written.path.as_ref().map(|path| path.value.clone()),
    })
}

/// Whether what stands there could not be read.
fn unread(written: &raw::Redirect, key: &str) -> bool {
    match key {
        "scheme" => written.scheme.is_none(),
        "host" => written.host.is_none(),
        "port" => written.port.is_none(),
        _ => written.path.is_none(),
    }
}
