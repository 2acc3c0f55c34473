//! Connections to brokers.

use super::access::{self, UrlUser};
use crate::{
    kinds::Text,
    plan::{Broker, Messaging, Overflow},
    raw,
    report::Report,
    source::Place,
};

pub(super) fn broker(written: &raw::Messaging, report: &mut Report<'_>) -> Option<Messaging> {
    let place = written.name.as_ref().map_or(written.place, |name| name.place);
    let (broker, in_urls) = servers(written, place, report).unzip();
    let subject_prefix = written.subject_prefix.as_ref()?;
    if subject_prefix.value.split('.').any(|token| !is_token(token)) {
        report.error_help(
            subject_prefix.place,
            format!("`{}` is no subject prefix", subject_prefix.value),
            "a prefix is words joined by dots, without spaces, `*` and `>`",
        );
    }
    let auth = access::auth(written.auth.as_ref(), in_urls.as_deref().unwrap_or_default(), report);
    let tls = access::tls(written, broker.as_ref(), report);
    if let Some(retry) = &written.retry {
        super::policy::check_retry(retry, report);
    }
    Some(Messaging {
        name: written.name.as_ref()?.value.clone(),
        broker: broker?,
        subject_prefix: subject_prefix.value.clone(),
        connections: written.connections.map(super::size),
        max_inflight: super::size(written.max_inflight?),
        overflow: match written.overflow_policy.as_ref().map(|policy| policy.value) {
            Some(raw::OverflowPolicy::Reject) => Overflow::Reject,
            Some(raw::OverflowPolicy::Queue) | None => Overflow::Queue,
        },
        auth: auth?,
        tls: tls?,
        location: report.sources.location(place),
    })
}

/// Whether `text` can be one word of a NATS subject.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}

/// Where the broker is, and whom the addresses name as its users.
fn servers(
    written: &raw::Messaging,
    place: Place,
    report: &mut Report<'_>,
) -> Option<(Broker, Vec<UrlUser>)> {
    let embedded = written.embedded.as_ref().filter(|embedded| embedded.value);
    match (&written.servers, embedded) {
        (Some(_), Some(embedded)) => {
            report.error(embedded.place, "either `servers` or `embedded: true`, not both");
            None
        }
        (None, Some(_)) => Some((Broker::Embedded, Vec::new())),
        (Some(servers), None) if servers.0.is_empty() => {
            report.error(place, "the list of `servers` is empty");
            None
        }
        (Some(servers), None) => {
            let read: Vec<_> = servers.0.iter().filter_map(|server| url(server, report)).collect();
            let (urls, users): (Vec<_>, Vec<_>) = read.into_iter().unzip();
            Some((Broker::Servers(urls), users.into_iter().flatten().collect()))
        }
        (None, None) if written.has("servers") || written.has("embedded") && written.embedded.is_none() => {
            None
        }
        (None, None) => {
            report.error_help(
                place,
                "a messaging connection needs `servers`",
                "write `servers: [nats://127.0.0.1:4222]`, or `embedded: true` for a server that the gateway starts",
            );
            None
        }
    }
}

/// `scheme://[user:password@]host[:port]`; without a scheme it is `nats://`. The user comes out of the address,
/// which may then stand in any log.
fn url(server: &Text, report: &mut Report<'_>) -> Option<(String, Option<UrlUser>)> {
    let (scheme, rest) = server.value.split_once("://").unwrap_or(("nats", &server.value));
    if !["nats", "tls"].contains(&scheme) {
        report.error_help(
            server.place,
            format!(
                "a NATS server cannot be reached by `{}://`",
                scheme.split('@').next_back().unwrap_or_default()
            ),
            "write `nats://host:port` or `tls://host:port`",
        );
        return None;
    }
    let (user, address) = match rest.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, rest),
    };
    let address = address.strip_suffix('/').unwrap_or(address);
    let valid = address.parse::<http::uri::Authority>().is_ok_and(|authority| {
        let host = authority.host();
        let port = address.strip_prefix(host).unwrap_or_default();
        !host.is_empty() && (port.is_empty() || authority.port_u16().is_some_and(|port| port > 0))
    });
    if !valid {
        // The text may hold a password: the place shows where it stands, the reason stays clean.
        report.error_help(server.place, "this is no server's address", "write `nats://host:port`");
        return None;
    }
    let user = match user.filter(|user| !user.is_empty()) {
        Some(user) => Some(UrlUser::read(user, server.place, report)?),
        None => None,
    };
    Some((format!("{scheme}://{address}"), user))
}
