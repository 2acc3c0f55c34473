//! How requests are shared among endpoints: algorithms, health, retries, limits, names.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    kinds::{Count, Flag, Interval, Text},
    plan::{
        Algorithm, Balancing, CircuitBreaker, Dns, HashBy, HealthCheck, PassiveHealth, RequestRetry,
        RetryStatus, UpstreamLimits,
    },
    raw,
    report::Report,
};

/// The keys of a service that say how its requests are shared.
pub(super) const KEYS: &[&str] =
    &["algorithm", "hash", "health_check", "passive_health", "slow_start", "retry", "circuit_breaker"];

/// How a service treats its endpoints.
pub(super) fn balancing(
    written: &raw::Service,
    limits: &UpstreamLimits,
    report: &mut Report<'_>,
) -> Option<Balancing> {
    let algorithm = algorithm(written, report);
    let health_check = enabled(written.health_check.as_ref(), |check| check.enabled.as_ref())
        .map(|check| health_check(check, report));
    let passive_health = enabled(written.passive_health.as_ref(), |health| health.enabled.as_ref())
        .map(|health| passive_health(health, report));
    let retry = written.retry.as_ref().map(|retry| self::retry(retry, limits, report));
    let circuit_breaker = written.circuit_breaker.as_ref().map(|breaker| circuit_breaker(breaker, report));
    if let Some(slow_start) = written.slow_start
        && health_check.is_none()
        && passive_health.is_none()
        && !has_names(written)
    {
        report.warn(
            slow_start.place,
            "`slow_start` has no effect without `health_check` or `passive_health`: no endpoint comes back",
        );
    }
    Some(Balancing {
        algorithm: algorithm?,
        health_check: some_if_read(health_check)?,
        passive_health: some_if_read(passive_health)?,
        slow_start: written.slow_start.map(|time| time.value),
        retry: some_if_read(retry)?,
        circuit_breaker: some_if_read(circuit_breaker)?,
    })
}

/// Whether endpoints may come and go because a name leads elsewhere.
fn has_names(written: &raw::Service) -> bool {
    let hosts = written.endpoints.iter().flatten().filter_map(|endpoint| endpoint.ip.as_ref());
    hosts.into_iter().any(|host| host.value.trim_matches(['[', ']']).parse::<IpAddr>().is_err())
}

/// `Some(None)` is "not written", `None` is "written, and wrong".
fn some_if_read<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
        None => Some(None),
    }
}

/// A section that is not switched off.
fn enabled<T>(section: Option<&T>, flag: impl Fn(&T) -> Option<&Flag>) -> Option<&T> {
    section.filter(|section| flag(section).is_none_or(|flag| flag.value))
}

fn algorithm(written: &raw::Service, report: &mut Report<'_>) -> Option<Algorithm> {
    let word = written.algorithm.as_ref().map_or(raw::Algorithm::RoundRobin, |word| word.value);
    if word != raw::Algorithm::Consistent
        && let Some(hash) = &written.hash
    {
        report.error_help(
            hash.place,
            "`hash` is for `algorithm: consistent` only",
            "write `algorithm: consistent`, or leave `hash` out",
        );
        return None;
    }
    Some(match word {
        raw::Algorithm::RoundRobin | raw::Algorithm::Weighted => Algorithm::InTurn,
        raw::Algorithm::Random => Algorithm::Random,
        raw::Algorithm::LeastConn => Algorithm::LeastConn,
        raw::Algorithm::P2c => Algorithm::PowerOfTwo,
        raw::Algorithm::Consistent => Algorithm::Consistent(match &written.hash {
            Some(hash) => hash_by(hash, report)?,
            None if written.has("hash") => return None,
            None => HashBy::ClientIp,
        }),
    })
}

fn hash_by(written: &raw::Hash, report: &mut Report<'_>) -> Option<HashBy> {
    let by = match &written.by {
        Some(by) => by.value,
        None if written.has("by") => return None,
        None => raw::HashBy::ClientIp,
    };
    let (word, example) = match by {
        raw::HashBy::ClientIp | raw::HashBy::Path => {
            if let Some(name) = &written.name {
                report.error(name.place, "`name` is for `by: header` and `by: cookie` only");
                return None;
            }
            return Some(if by == raw::HashBy::Path { HashBy::Path } else { HashBy::ClientIp });
        }
        raw::HashBy::Header => ("header", "x-user"),
        raw::HashBy::Cookie => ("cookie", "session"),
    };
    let Some(name) = &written.name else {
        if !written.has("name") {
            report.error_help(
                written.place,
                format!("`by: {word}` needs a `name`"),
                format!("write `hash: {{by: {word}, name: {example}}}`"),
            );
        }
        return None;
    };
    let read = http::HeaderName::from_bytes(name.value.as_bytes()).ok();
    match (by, read) {
        (raw::HashBy::Header, Some(header)) => Some(HashBy::Header(header)),
        // The name of a cookie is a token like that of a field, but its capitals count (RFC 6265, 4.1.1).
        (_, Some(_)) => Some(HashBy::Cookie(name.value.clone())),
        (_, None) => {
            report.error(name.place, format!("`{}` is no name of a {word}", name.value));
            None
        }
    }
}

fn health_check(written: &raw::HealthCheck, report: &mut Report<'_>) -> Option<HealthCheck> {
    let path = written.path.as_ref()?;
    let read = path.value.starts_with('/').then(|| path.value.parse().ok()).flatten();
    if read.is_none() {
        report.error_help(
            path.place,
            format!("`{}` is no path", path.value),
            "write a path such as `/health`; what is special in it is percent-encoded",
        );
    }
    Some(HealthCheck {
        path: read?,
        interval: some_time(written.interval?, "interval", report)?,
        timeout: some_time(written.timeout?, "timeout", report)?,
        healthy_threshold: number(written.healthy_threshold?),
        unhealthy_threshold: number(written.unhealthy_threshold?),
    })
}

fn passive_health(written: &raw::PassiveHealth, report: &mut Report<'_>) -> Option<PassiveHealth> {
    let (ejection, max_ejection) = (written.ejection?, written.max_ejection?);
    if ejection.value > max_ejection.value {
        report.error(ejection.place, "`ejection` is more than `max_ejection`");
        return None;
    }
    Some(PassiveHealth {
        consecutive_failures: number(written.consecutive_failures?),
        ejection: some_time(ejection, "ejection", report)?,
        max_ejection: max_ejection.value,
        max_ejected_percent: number(written.max_ejected_percent?),
    })
}

fn retry(
    written: &raw::RequestRetry,
    limits: &UpstreamLimits,
    report: &mut Report<'_>,
) -> Option<RequestRetry> {
    use raw::RetryOn;
    if written.has("on") && written.on.is_none() {
        return None;
    }
    let on = |word: RetryOn| match &written.on {
        Some(words) => words.iter().any(|written| written.value == word),
        None => matches!(word, RetryOn::ConnectError | RetryOn::Reset),
    };
    let attempt_timeout = match written.attempt_timeout {
        Some(time) => Some(some_time(time, "attempt_timeout", report)?),
        None if written.has("attempt_timeout") => return None,
        None => None,
    };
    if attempt_timeout.is_none()
        && let Some(timeout) = written.on.iter().flatten().find(|word| word.value == RetryOn::Timeout)
    {
        report.error_help(
            timeout.place,
            "`timeout` needs an `attempt_timeout`: without it a request's whole time is over when its first attempt is late",
            format!("write `attempt_timeout: {}ms`", (limits.response_head_timeout / 4).as_millis().max(1)),
        );
        return None;
    }
    Some(RequestRetry {
        attempts: number(written.attempts?),
        on_connect_error: on(RetryOn::ConnectError),
        on_reset: on(RetryOn::Reset),
        on_timeout: on(RetryOn::Timeout),
        on_status: match (on(RetryOn::ServerError), on(RetryOn::GatewayError)) {
            (true, _) => RetryStatus::AllOf5xx,
            (false, true) => RetryStatus::Gateway,
            (false, false) => RetryStatus::None,
        },
        budget_percent: number(written.budget_percent?),
        attempt_timeout,
    })
}

fn circuit_breaker(written: &raw::CircuitBreaker, report: &mut Report<'_>) -> Option<CircuitBreaker> {
    let Some(max_connections) = written.max_connections else {
        if !written.has("max_connections") {
            report.error_help(
                written.place,
                "`circuit_breaker` needs `max_connections`",
                "write `circuit_breaker: {max_connections: 100}`",
            );
        }
        return None;
    };
    Some(CircuitBreaker {
        max_connections: super::size(max_connections),
        max_pending: super::size(written.max_pending?),
        pending_timeout: written.pending_timeout?.value,
    })
}

/// How names are resolved; all defaults where nothing is written.
pub(super) fn dns(root: &raw::Root, report: &mut Report<'_>) -> Option<Dns> {
    let written = root.dns.clone().or_else(|| super::absent::<raw::Dns>(root.place, report))?;
    let servers: Vec<_> =
        super::list(written.servers.as_ref()).iter().map(|server| name_server(server, report)).collect();
    let (min, max) = (written.min_ttl?, written.max_ttl?);
    if min.value > max.value {
        report.error(min.place, "`min_ttl` is more than `max_ttl`");
        return None;
    }
    Some(Dns {
        servers: servers.into_iter().collect::<Option<_>>()?,
        min_ttl: some_time(min, "min_ttl", report)?,
        max_ttl: max.value,
        timeout: some_time(written.timeout?, "timeout", report)?,
        must_resolve: written.must_resolve.is_some_and(|flag| flag.value),
    })
}

/// The port of DNS.
const DNS_PORT: u16 = 53;

fn name_server(written: &Text, report: &mut Report<'_>) -> Option<SocketAddr> {
    let address = written.value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let address = address.or_else(|_| written.value.parse()).ok();
    if address.is_none() {
        report.error_help(
            written.place,
            format!("`{}` is no address of a name server", written.value),
            "write an IP address, and a port where it is not 53: `127.0.0.1:5353`",
        );
    }
    address
}

/// A time that is not zero.
fn some_time(written: Interval, key: &str, report: &mut Report<'_>) -> Option<Duration> {
    if written.value.is_zero() {
        report.error(written.place, format!("`{key}` is no time at all"));
        return None;
    }
    Some(written.value)
}

fn number<const MIN: u64, const MAX: u64>(count: Count<MIN, MAX>) -> u32 {
    u32::try_from(count.value).unwrap_or(u32::MAX)
}
