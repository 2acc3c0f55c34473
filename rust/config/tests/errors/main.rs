//! One mistake each: where it is told, about which text, why, and with which help.

use std::path::Path;

use nylon_config::ConfigErrors;

/// The gateway's own plugins.
mod builtins;
/// Those of them that let requests through or refuse them.
mod refusals;
mod conditions;
/// Routes, paths and middleware.
mod routing;
/// Listeners, services, plugins and brokers.
mod balancing;
mod targets;
mod templates;
/// Groups of workers and their shares.
mod workers;

/// Valid as it is; each case replaces a piece of it.
const VALID: &str = "\
http: [127.0.0.1:0]
header_selector: x-pick
messaging:
  - {name: broker, servers: ['nats://h:4222']}
plugins:
  - {name: auth, file: plugin.py}
  - {name: far, messaging: broker, group: g}
services:
  - {name: up, service_type: http, endpoints: [{ip: 127.0.0.1, port: 3000}]}
  - {name: answer, service_type: plugin, plugin: {name: auth, entry: hello}}
middleware_groups:
  safe: [{plugin: auth, entry: jwt}]
routes:
  - route: {type: host, value: a.test}
    name: main
    middleware: [{group: safe}]
    paths:
      - path: ['/x/{id}', '/{*all}']
        methods: [GET]
        service: {name: up, rewrite: '/y/'}
        middleware: [{plugin: far, entry: e, payload: {k: v}}]
      - path: /answer
        service: {name: answer}
";

fn check(text: &str) -> Result<(), ConfigErrors> {
    let env = |name: &str| (name == "EMPTY").then(String::new);
    nylon_config::parse_str("nylon.yaml", text, Path::new("tests/data/example"), &env).map(drop)
}

/// Replaces `from` (which stands once), and expects one error: about `text`, with this reason and help.
fn case(from: &str, to: &str, text: &str, reason: &str, help: Option<&str>) {
    assert_eq!(VALID.matches(from).count(), 1, "`{from}` must stand once");
    let changed = VALID.replace(from, to);
    let errors = check(&changed).expect_err(to).errors;
    let [error] = errors.as_slice() else {
        panic!("`{to}` gives {} errors:\n{}", errors.len(), ConfigErrors { errors, warnings: Vec::new() });
    };
    assert_eq!((error.text(), error.reason.as_str(), error.suggestion.as_deref()), (text, reason, help));
    let line = changed.lines().nth(error.location.line - 1).unwrap_or_default();
    // Stars stand for passwords.
    let same = |(written, shown)| written == shown || shown == '*';
    assert!(line.chars().zip(error.location.source.chars()).all(same), "{error}");
}

#[test]
fn the_configuration_that_the_cases_change_is_valid() {
    check(VALID).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn wrong_kinds_of_values_say_what_was_expected() {
    case(
        "port: 3000",
        "port: '3000'",
        "'3000'",
        "expected a whole number from 1 to 65535, found text",
        Some("leave out the quotes"),
    );
    case("port: 3000", "port: 70000", "70000", "expected a whole number from 1 to 65535, found 70000", None);
    case("name: main", "name: 12", "12", "expected text, found a number", Some("put it in quotes"));
    case("name: main", "name: ''", "''", "expected text, found an empty one", None);
    case(
        "header_selector: x-pick",
        "runtime: {daemon: no}",
        "no",
        "expected true or false, found text",
        Some("write `false`"),
    );
    case(
        "header_selector: x-pick",
        "limits: {max_headers: 0}",
        "0",
        "expected a whole number from 1 to 10000, found 0",
        None,
    );
    case(
        "header_selector: x-pick",
        "limits: [1]",
        "[",
        "expected a mapping, found a list",
        Some(
            "`limits` has the keys `header_read_timeout_ms`, `tls_handshake_timeout_ms`, `keepalive_timeout_ms`, `body_read_timeout_ms`, `write_timeout_ms`, `max_header_bytes`, `max_headers`, `max_body_bytes`, `max_forwarded_body_bytes`, `max_connections`, `max_concurrent_streams`, `connect_timeout_ms`, `response_head_timeout_ms`, `upstream_read_timeout_ms`, `upstream_idle_timeout_ms`",
        ),
    );
    case("{group: safe}", "!tag x", "x", "YAML tags have no meaning in a configuration", None);
    case("{group: safe}", "*nothing", "*nothing", "no anchor `&nothing` stands before this alias", None);
    case(
        "name: main",
        "name: main\n    name: other",
        "name",
        "`name` stands here twice; first at nylon.yaml:15:5",
        None,
    );
    case(
        "name: main",
        "name: '${NAME}'",
        "'${NAME}'",
        "`${NAME}` is not replaced here",
        Some(
            "environment variables stand in a messaging's `servers`, `auth` and `tls`, and in `group`, `file`, `module` and `config_dir`",
        ),
    );
}

#[test]
fn broken_yaml_is_told_with_its_place() {
    case(
        "servers: ['nats://h:4222']",
        "servers: [${X}]",
        "{",
        "not valid YAML: while parsing a flow sequence, expected ',' or ']'",
        Some("between brackets, `${NAME}` must stand in quotes"),
    );
    let errors = check("http: [127.0.0.1:0]\n---\nhttp: []\n").expect_err("two documents").errors;
    assert_eq!(errors.len(), 1);
    assert!(errors[0].reason.starts_with("a second YAML document"), "{}", errors[0]);
    let bomb = (0..30).fold("a: &a0 [1]\n".to_owned(), |text, n| {
        let (from, to) = (n, n + 1);
        format!("{text}b{to}: &a{to} [*a{from}, *a{from}, *a{from}]\n")
    });
    let errors = check(&bomb).expect_err("a bomb").errors;
    assert!(errors[0].reason.contains("aliases expand"), "{}", errors[0]);
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_lines() {
    let text = VALID
        .replace("127.0.0.1:0", "nowhere")
        .replace("plugin.py", "missing.py")
        .replace("port: 3000", "prot: many")
        .replace("entry: jwt", "entry: 3")
        .replace("name: up, rewrite", "name: upp, rewrite")
        .replace("[GET]", "[get]");
    let errors = check(&text).expect_err("much is wrong").errors;
    let told: Vec<_> = errors.iter().map(|error| (error.location.line, error.text())).collect();
    assert_eq!(
        told,
        [(1, "nowhere"), (6, "missing.py"), (9, "prot"), (9, "many"), (12, "3"), (19, "get"), (20, "upp")]
    );
}
