//! Routes: which requests are meant, and what their paths lead to.

use std::{collections::HashMap, hash::Hash};

use super::{
    certificates::plain_requests, directory::Directory, middleware::Attached, paths, services::is_host_name,
};
use crate::{
    kinds::Text,
    plan::{HostPattern, Matcher, PathRule, Route, ServiceIndex},
    raw,
    report::Report,
    source::Place,
};

/// What routes refer to.
pub(super) struct Targets<'a> {
    pub(super) services: &'a Directory,
    pub(super) attached: &'a Attached<'a>,
    pub(super) header_selector: bool,
    /// Whether a request can have come over TLS.
    pub(super) tls: bool,
}

/// Which hosts and header values are taken, and where.
#[derive(Default)]
struct Matched {
    hosts: HashMap<HostPattern, Place>,
    values: HashMap<String, Place>,
}

pub(super) fn routes(
    written: &[raw::Route],
    targets: &Targets<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Route>> {
    Directory::of("route", written, |route| route.name.as_ref(), report);
    let mut matched = Matched::default();
    let routes: Vec<_> =
        written.iter().map(|route| self::route(route, targets, &mut matched, report)).collect();
    routes.into_iter().collect()
}

fn route(
    written: &raw::Route,
    targets: &Targets<'_>,
    matched: &mut Matched,
    report: &mut Report<'_>,
) -> Option<Route> {
    let place = written.name.as_ref().map_or(written.place, |name| name.place);
    let matcher =
        written.matcher.as_ref().and_then(|matcher| self::matcher(matcher, targets, matched, report));
    let plain = plain_requests(written.tls.as_ref(), targets.tls, report);
    let shared = written.middleware.as_deref().unwrap_or_default();
    // Expanded once for its errors, then put before each path's own.
    let shared = targets.attached.expand(shared, report);
    if written.paths.as_ref().is_some_and(Vec::is_empty) {
        report.error(place, "a route without paths leads nowhere");
    }
    let mut patterns = paths::Patterns::default();
    let rules: Vec<_> = written
        .paths
        .iter()
        .flatten()
        .map(|rule| {
            let mut rule = path_rule(rule, &mut patterns, targets, report)?;
            rule.middleware = shared.iter().cloned().chain(rule.middleware).collect();
            Some(rule)
        })
        .collect();
    Some(Route {
        name: written.name.as_ref()?.value.clone(),
        matcher: matcher?,
        plain: plain?,
        paths: rules.into_iter().collect::<Option<_>>()?,
        location: report.sources.location(place),
    })
}

fn matcher(
    written: &raw::RouteMatcher,
    targets: &Targets<'_>,
    matched: &mut Matched,
    report: &mut Report<'_>,
) -> Option<Matcher> {
    let kind = written.kind.as_ref()?;
    let text = written.value.as_ref()?;
    let values = text.value.split('|').map(str::trim);
    match kind.value {
        raw::MatcherType::Host => {
            let mut hosts = Vec::new();
            for value in values {
                let Some(host) = host(value, text.place, report) else { continue };
                if take(&mut matched.hosts, &host, value, text, "host", report) {
                    hosts.push(host);
                }
            }
            Some(Matcher::Host(hosts))
        }
        raw::MatcherType::Header => {
            if !targets.header_selector {
                report.error_help(
                    kind.place,
                    "a route by header needs a `header_selector`",
                    "write `header_selector: x-nylon-proxy` at the top of the configuration",
                );
            }
            let mut taken = Vec::new();
            for value in values {
                if value.is_empty() || http::HeaderValue::from_str(value).is_err() {
                    report.error(text.place, format!("`{value}` is no header value"));
                } else if take(&mut matched.values, &value.to_owned(), value, text, "header value", report) {
                    taken.push(value.to_owned());
                }
            }
            Some(Matcher::Header(taken))
        }
    }
}

/// Notes that `item` is taken; reports it, with both places, if it was already.
fn take<T: Eq + Hash + Clone>(
    taken: &mut HashMap<T, Place>,
    item: &T,
    shown: &str,
    text: &Text,
    what: &str,
    report: &mut Report<'_>,
) -> bool {
    if let Some(first) = taken.get(item) {
        let reason = format!("the {what} `{shown}` has a route already, see {}", report.at(*first));
        report.error(text.place, reason);
        return false;
    }
    taken.insert(item.clone(), text.place);
    true
}

fn host(value: &str, place: Place, report: &mut Report<'_>) -> Option<HostPattern> {
    let lower = value.to_ascii_lowercase();
    if lower == "*" {
        return Some(HostPattern::Any);
    }
    if let Some(suffix) = lower.strip_prefix('*') {
        if suffix.strip_prefix('.').is_some_and(is_host_name) {
            return Some(HostPattern::Suffix(suffix.to_owned()));
        }
    } else if is_host_name(&lower) || lower.parse::<std::net::Ipv4Addr>().is_ok() {
        return Some(HostPattern::Exact(lower));
    } else if let Ok(ip) = lower.trim_start_matches('[').trim_end_matches(']').parse::<std::net::Ipv6Addr>() {
        return Some(HostPattern::Exact(format!("[{ip}]")));
    }
    let reason = format!("`{value}` is no host");
    match value.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => {
            report.error_help(place, reason, format!("write `{name}`: a route holds for every port"));
        }
        _ => report.error_help(
            place,
            reason,
            "write names such as `a.com|b.com`, `*.example.com`, or `*` for every host",
        ),
    }
    None
}

fn path_rule(
    written: &raw::PathRule,
    patterns: &mut paths::Patterns,
    targets: &Targets<'_>,
    report: &mut Report<'_>,
) -> Option<PathRule> {
    if written.methods.as_ref().is_some_and(Vec::is_empty) {
        report.error_help(written.place, "an empty list of `methods`", "leave the key out for all methods");
    }
    let methods = methods(written.methods.as_deref().unwrap_or_default(), report);
    let middleware = targets.attached.expand(written.middleware.as_deref().unwrap_or_default(), report);
    let service =
        written.service.as_ref().and_then(|service| targets.services.find(service.name.as_ref()?, report));
    let texts = &written.path.as_ref()?.0;
    if texts.is_empty() {
        report.error(written.place, "the list of paths is empty");
    }
    let found: Vec<String> = texts.iter().filter_map(|text| patterns.add(text, &methods, report)).collect();
    let rewrite = written.service.as_ref().and_then(|service| service.rewrite.as_ref());
    let rewrite = rewrite.and_then(|rewrite| paths::rewrite(rewrite, &found, report));
    Some(PathRule {
        patterns: found,
        methods,
        service: ServiceIndex(service?),
        rewrite,
        middleware,
        location: report.sources.location(texts.first().map_or(written.place, |text| text.place)),
    })
}

/// The methods as requests have them.
pub(super) fn methods(texts: &[Text], report: &mut Report<'_>) -> Vec<http::Method> {
    texts.iter().filter_map(|text| method(text, report)).collect()
}

/// A method, as requests have it.
pub(super) fn method(text: &Text, report: &mut Report<'_>) -> Option<http::Method> {
    let upper = text.value.to_ascii_uppercase();
    match http::Method::from_bytes(text.value.as_bytes()) {
        Ok(method) if upper == text.value => return Some(method),
        Ok(_) => report.error_help(
            text.place,
            format!("no request has the method `{}`", text.value),
            format!("methods are in capitals: `{upper}`"),
        ),
        Err(_) => report.error(text.place, format!("`{}` is no method", text.value)),
    }
    None
}
