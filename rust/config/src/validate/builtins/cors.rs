//! `Cors`: origins as browsers write them, and what may not go together.

use std::time::Duration;

use http::Method;

use super::super::{fields, routes::method, services::is_host_name};
use crate::{
    kinds::{OneOrMany, Text},
    plan::{Allowed, Cors, OriginPattern},
    raw,
    report::Report,
};

pub(super) fn cors(written: &raw::Cors, report: &mut Report<'_>) -> Option<Cors> {
    let credentials = written.allow_credentials.as_ref().is_some_and(|flag| flag.value);
    let origins = allowed(written.allow_origins.as_ref()?, credentials, report, |text, report| {
        origin(text, credentials, report)
    });
    let simple = || Some(Allowed::Listed(vec![Method::GET, Method::HEAD, Method::POST]));
    let methods = match &written.allow_methods {
        Some(methods) => allowed(methods, credentials, report, method),
        None => simple(),
    };
    let mut fields = |written: Option<&OneOrMany<Text>>| match written {
        Some(names) => allowed(names, credentials, report, fields::name),
        None => Some(Allowed::Listed(Vec::new())),
    };
    let (headers, exposed) =
        (fields(written.allow_headers.as_ref()), fields(written.expose_headers.as_ref()));
    Some(Cors {
        origins: origins?,
        methods: methods?,
        headers: headers?,
        exposed: exposed?,
        credentials,
        max_age: written.max_age_seconds.map(|seconds| Duration::from_secs(seconds.value)),
        refuse_others: written.refuse_others.as_ref().is_some_and(|flag| flag.value),
    })
}

/// The items of a list, or all.
fn allowed<T>(
    OneOrMany(written): &OneOrMany<Text>,
    credentials: bool,
    report: &mut Report<'_>,
    mut item: impl FnMut(&Text, &mut Report<'_>) -> Option<T>,
) -> Option<Allowed<T>> {
    let Some(star) = written.iter().find(|text| text.value == "*") else {
        let items: Vec<_> = written.iter().map(|text| item(text, report)).collect();
        return items.into_iter().collect::<Option<_>>().map(Allowed::Listed);
    };
    if credentials {
        report.error_help(
            star.place,
            "`*` does not go with `allow_credentials`: any site could act as whoever visits it",
            "list what is meant",
        );
        return None;
    }
    if let Some(other) = written.iter().find(|text| text.value != "*") {
        report.error(other.place, format!("`*` stands beside it already, which includes `{}`", other.value));
        return None;
    }
    Some(Allowed::All)
}

fn origin(text: &Text, credentials: bool, report: &mut Report<'_>) -> Option<OriginPattern> {
    let wrong = |report: &mut Report<'_>| {
        let reason = format!("`{}` is no origin", text.value);
        let help = "write scheme and host, and a port where it is not the scheme's own: `https://a.example`, \
                    `https://*.example.com`, `http://localhost:3000`";
        report.error_help(text.place, reason, help);
        None
    };
    let lower = text.value.to_ascii_lowercase();
    if lower == "null" {
        if credentials {
            report.error(
                text.place,
                "`null` does not go with `allow_credentials`: every sandboxed page has this origin",
            );
            return None;
        }
        return Some(OriginPattern::Exact(lower));
    }
    let Some((scheme, rest)) = lower.split_once("://") else { return wrong(report) };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let below = rest.strip_prefix("*.");
    let (host, port) = match below.unwrap_or(rest).rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (below.unwrap_or(rest), None),
    };
    let is_ip = host.parse::<std::net::Ipv4Addr>().is_ok()
        || host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return wrong(report),
    };
    if !is_scheme || !(is_host_name(host) || is_ip && below.is_none()) {
        return wrong(report);
    }
    let usual = matches!((scheme, port), ("http", Some(80)) | ("https", Some(443)));
    let port = port.filter(|_| !usual).map_or_else(String::new, |port| format!(":{port}"));
    Some(match below {
        None => OriginPattern::Exact(format!("{scheme}://{host}{port}")),
        Some(_) => OriginPattern::Below { scheme: format!("{scheme}://"), suffix: format!(".{host}{port}") },
    })
}
