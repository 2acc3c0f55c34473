//! Connections to brokers.

use crate::{
    kinds::Text,
    plan::{Broker, BrokerAuth, Messaging, Overflow, Secret},
    raw,
    report::Report,
    source::Place,
};

pub(super) fn broker(written: &raw::Messaging, report: &mut Report<'_>) -> Option<Messaging> {
    let place = written.name.as_ref().map_or(written.place, |name| name.place);
    let broker = servers(written, place, report);
    let subject_prefix = written.subject_prefix.as_ref()?;
    if subject_prefix.value.split('.').any(|token| !is_token(token)) {
        report.error_help(
            subject_prefix.place,
            format!("`{}` is no subject prefix", subject_prefix.value),
            "a prefix is words joined by dots, without spaces, `*` and `>`",
        );
    }
    let auth = written.auth.as_ref().map_or(Some(BrokerAuth::Anonymous), |auth| auth_of(auth, report));
    if let Some(retry) = &written.retry {
        super::policy::check_retry(retry, report);
    }
    Some(Messaging {
        name: written.name.as_ref()?.value.clone(),
        broker: broker?,
        subject_prefix: subject_prefix.value.clone(),
        max_inflight: super::size(written.max_inflight?),
        overflow: match written.overflow_policy.as_ref().map(|policy| policy.value) {
            Some(raw::OverflowPolicy::Reject) => Overflow::Reject,
            Some(raw::OverflowPolicy::Queue) | None => Overflow::Queue,
        },
        auth: auth?,
        location: report.sources.location(place),
    })
}

/// Whether `text` can be one word of a NATS subject.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}

fn servers(written: &raw::Messaging, place: Place, report: &mut Report<'_>) -> Option<Broker> {
    let embedded = written.embedded.as_ref().filter(|embedded| embedded.value);
    match (&written.servers, embedded) {
        (Some(_), Some(embedded)) => {
            report.error(embedded.place, "either `servers` or `embedded: true`, not both");
            None
        }
        (None, Some(_)) => Some(Broker::Embedded),
        (Some(servers), None) if servers.0.is_empty() => {
            report.error(place, "the list of `servers` is empty");
            None
        }
        (Some(servers), None) => {
            Some(Broker::Servers(servers.0.iter().filter_map(|server| url(server, report)).collect()))
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

/// `scheme://[user:password@]host[:port]`; without a scheme it is `nats://`.
fn url(server: &Text, report: &mut Report<'_>) -> Option<String> {
    let (scheme, rest) = server.value.split_once("://").unwrap_or(("nats", &server.value));
    if !["nats", "tls"].contains(&scheme) {
        report.error_help(
            server.place,
            format!("a NATS server cannot be reached by `{scheme}://`"),
            "write `nats://host:port` or `tls://host:port`",
        );
        return None;
    }
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    let valid = rest.parse::<http::uri::Authority>().is_ok_and(|authority| {
        let host = authority.host();
        let port = address.strip_prefix(host).unwrap_or_default();
        !host.is_empty() && (port.is_empty() || authority.port_u16().is_some_and(|port| port > 0))
    });
    if !valid {
        // The text may hold a password: the place shows it to whoever has the file, the reason stays clean.
        report.error_help(server.place, "this is no server's address", "write `nats://host:port`");
        return None;
    }
    Some(format!("{scheme}://{rest}"))
}

fn auth_of(auth: &raw::Auth, report: &mut Report<'_>) -> Option<BrokerAuth> {
    match (&auth.user, &auth.password, &auth.token) {
        (None, None, None) if !auth.has("user") && !auth.has("password") && !auth.has("token") => {
            Some(BrokerAuth::Anonymous)
        }
        (Some(user), Some(password), None) => Some(BrokerAuth::Password {
            user: user.0.value.clone(),
            password: Secret::new(password.0.value.clone()),
        }),
        (None, None, Some(token)) => Some(BrokerAuth::Token(Secret::new(token.0.value.clone()))),
        (_, _, Some(token)) => {
            report.error(token.0.place, "either a `token`, or `user` and `password`");
            None
        }
        _ if auth.has("user") && auth.has("password") => None,
        _ => {
            report.error(auth.place, "`user` and `password` belong together");
            None
        }
    }
}
