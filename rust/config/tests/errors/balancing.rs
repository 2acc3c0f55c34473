//! Mistakes in how requests are shared among endpoints.

use super::{VALID, case, check};

const UP: &str = "endpoints: [{ip: 127.0.0.1, port: 3000}]";

/// Adds `more` to the service `up`, and expects one error.
fn service(more: &str, text: &str, reason: &str, help: Option<&str>) {
    case(UP, &format!("{UP}, {more}"), text, reason, help);
}

#[test]
fn a_hash_has_what_it_needs_and_a_use() {
    let only = "`hash` is for `algorithm: consistent` only";
    let help = "write `algorithm: consistent`, or leave `hash` out";
    service("hash: {by: path}", "by", only, Some(help));
    service(
        "algorithm: consistent, hash: {by: header}",
        "by",
        "`by: header` needs a `name`",
        Some("write `hash: {by: header, name: x-user}`"),
    );
    service(
        "algorithm: consistent, hash: {by: cookie, name: 'a b'}",
        "'a b'",
        "`a b` is no name of a cookie",
        None,
    );
    service(
        "algorithm: consistent, hash: {name: x-user}",
        "x-user",
        "`name` is for `by: header` and `by: cookie` only",
        None,
    );
    service(
        "algorithm: weigthed",
        "weigthed",
        "unknown algorithm: `weigthed`",
        Some("did you mean `weighted`?"),
    );
}

#[test]
fn times_are_numbers_with_a_unit() {
    let help = Some("write a number and `ms`, `s`, `m` or `h`, at most 24h");
    service(
        "health_check: {interval: 5}",
        "5",
        "expected a time as text, such as 3s or 500ms, found a number",
        Some("put it in quotes"),
    );
    service("health_check: {interval: 5 s}", "5 s", "`5 s` is no time", help);
    service("health_check: {interval: s}", "s", "`s` is no time", help);
    service("health_check: {interval: 25h}", "25h", "`25h` is no time", help);
    service(
        "health_check: {timeout: 99999999999999999999s}",
        "99999999999999999999s",
        "`99999999999999999999s` is no time",
        help,
    );
    service("health_check: {interval: 0s}", "0s", "`interval` is no time at all", None);
    service("passive_health: {ejection: 10m}", "10m", "`ejection` is more than `max_ejection`", None);
}

#[test]
fn checks_retries_and_breakers_have_what_they_need() {
    service(
        "health_check: {path: health}",
        "health",
        "`health` is no path",
        Some("write a path such as `/health`; what is special in it is percent-encoded"),
    );
    service(
        "retry: {on: [timeout]}",
        "timeout",
        "`timeout` needs an `attempt_timeout`: without it a request's whole time is over when its first attempt is late",
        Some("write `attempt_timeout: 15000ms`"),
    );
    service("retry: {on: [6xx]}", "6xx", "unknown on: `6xx`", Some("did you mean `5xx`?"));
    service(
        "circuit_breaker: {max_pending: 5}",
        "max_pending",
        "`circuit_breaker` needs `max_connections`",
        Some("write `circuit_breaker: {max_connections: 100}`"),
    );
}

#[test]
fn name_servers_are_addresses() {
    let dns = |written: &str| format!("header_selector: x-pick\ndns: {written}");
    case(
        "header_selector: x-pick",
        &dns("{servers: [dns.test]}"),
        "dns.test",
        "`dns.test` is no address of a name server",
        Some("write an IP address, and a port where it is not 53: `127.0.0.1:5353`"),
    );
    case("header_selector: x-pick", &dns("{min_ttl: 2m}"), "2m", "`min_ttl` is more than `max_ttl`", None);
}

#[test]
fn a_slow_start_without_a_way_back_is_a_warning() {
    let text = VALID.replace(UP, &format!("{UP}, slow_start: 10s"));
    check(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let loaded =
        nylon_config::parse_str("nylon.yaml", &text, std::path::Path::new("tests/data/example"), &|_| None);
    let warnings = loaded.expect("checked before").warnings;
    assert_eq!(warnings.iter().map(|warning| warning.text()).collect::<Vec<_>>(), ["10s"]);
}
