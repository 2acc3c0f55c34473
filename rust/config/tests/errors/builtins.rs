//! The gateway's own plugins: their payloads, and where they may stand.

use super::{VALID, case, check};

const PLAIN: &str = "{plugin: far, entry: e, payload: {k: v}}";

/// One error in a middleware `plugin` with this payload.
fn payload(plugin: &str, payload: &str, text: &str, reason: &str, help: Option<&str>) {
    case(PLAIN, &format!("{{plugin: {plugin}, payload: {payload}}}"), text, reason, help);
}

fn warnings(item: &str) -> Vec<(String, String)> {
    let text = VALID.replace(PLAIN, item);
    let loaded = nylon_config::parse_str("nylon.yaml", &text, "tests/data/example".as_ref(), &|_| None);
    let warnings = loaded.unwrap_or_else(|errors| panic!("{errors}")).warnings;
    warnings.into_iter().map(|warning| (warning.text().to_owned(), warning.reason)).collect()
}

#[test]
fn a_built_in_needs_no_entry_and_no_plugin_can_take_its_name() {
    check(&VALID.replace(PLAIN, "{plugin: RequestId}")).unwrap_or_else(|errors| panic!("{errors}"));
    case(
        PLAIN,
        "{plugin: RequestId, entry: e}",
        "e",
        "`RequestId` is the gateway's own plugin and has no entries",
        Some("leave `entry` out"),
    );
    case(
        "- {name: auth, file: plugin.py}",
        "- {name: auth, file: plugin.py}\n  - {name: Cors, file: plugin.py}",
        "Cors",
        "`Cors` is the gateway's own plugin",
        Some("choose another name"),
    );
    case(
        "plugin: {name: auth, entry: hello}",
        "plugin: {name: Redirect, entry: hello}",
        "Redirect",
        "`Redirect` cannot answer for a service",
        None,
    );
    case(
        PLAIN,
        "{plugin: RequestID, entry: e}",
        "RequestID",
        "unknown plugin: `RequestID`",
        Some("did you mean `RequestId`?"),
    );
}

#[test]
fn a_header_modifier_names_fields_that_can_be_changed() {
    let name = "RequestHeaderModifier";
    payload(
        name,
        "{}",
        "{",
        "a header modifier with nothing to change",
        Some("write `set: [{name: x-a, value: b}]`, `add` or `remove: [x-c]`"),
    );
    payload(name, "{remove: [a b]}", "a b", "`a b` is no header name", None);
    payload(
        name,
        "{set: {Transfer-Encoding: chunked}}",
        "Transfer-Encoding",
        "`transfer-encoding` belongs to one connection: the gateway writes it itself, and nobody else can",
        None,
    );
    payload(
        "ResponseHeaderModifier",
        r#"{add: [{name: x-a, value: "a\nb"}]}"#,
        r#""a\nb""#,
        "a header value holds no line break and no other control character",
        None,
    );
    payload(
        name,
        "{set: [{nam: x-a, value: b}]}",
        "nam",
        "unknown key `nam` in a header field",
        Some("did you mean `name`?"),
    );
    payload(name, "{set: [{name: x-a}]}", "name", "a header field needs the key `value`", None);
}

#[test]
fn origins_are_as_browsers_write_them() {
    let help = Some(
        "write scheme and host, and a port where it is not the scheme's own: `https://a.example`, \
         `https://*.example.com`, `http://localhost:3000`",
    );
    for origin in
        ["a.example", "https://a.example/", "https://", "https://*", "https://a.*.b", "https://a:x", "://a"]
    {
        let quoted = format!("'{origin}'");
        payload(
            "Cors",
            &format!("{{allow_origins: [{quoted}]}}"),
            &quoted,
            &format!("`{origin}` is no origin"),
            help,
        );
    }
    payload(
        "Cors",
        "{allow_methods: [GET]}",
        "allow_methods",
        "the payload of `Cors` needs the key `allow_origins`",
        None,
    );
}

#[test]
fn credentials_do_not_go_with_everybody() {
    let reason = "`*` does not go with `allow_credentials`: any site could act as whoever visits it";
    let help = Some("list what is meant");
    payload("Cors", "{allow_origins: '*', allow_credentials: true}", "'*'", reason, help);
    payload(
        "Cors",
        "{allow_origins: [https://a.b], allow_headers: ['*'], allow_credentials: true}",
        "'*'",
        reason,
        help,
    );
    payload(
        "Cors",
        "{allow_origins: ['null'], allow_credentials: true}",
        "'null'",
        "`null` does not go with `allow_credentials`: every sandboxed page has this origin",
        None,
    );
    payload(
        "Cors",
        "{allow_origins: ['*', https://a.b]}",
        "https://a.b",
        "`*` stands beside it already, which includes `https://a.b`",
        None,
    );
    payload(
        "Cors",
        "{allow_origins: '*', allow_methods: [put]}",
        "put",
        "no request has the method `put`",
        Some("methods are in capitals: `PUT`"),
    );
}

#[test]
fn a_redirect_has_one_target_that_no_request_can_choose() {
    payload(
        "Redirect",
        "{status: 301}",
        "status",
        "a redirect needs a target",
        Some("write `to: https://a.example/`, or what changes: `scheme: https`"),
    );
    payload(
        "Redirect",
        "{to: /a, path: /b}",
        "to",
        "either `to`, the whole target, or parts of it: `scheme`, `host`, `port`, `path`",
        None,
    );
    payload(
        "Redirect",
        "{to: /a, status: 304}",
        "304",
        "304 is no status of a redirect",
        Some("301 and 308 are for ever, 302, 303 and 307 for now; 307 and 308 keep the method"),
    );
    for to in [
        "'${query(next)}'",
        "'https://a.example${param(x)}'",
        "'https://${request(host)}/x'",
        "'//a.example/'",
        r"'/\a.example'",
    ] {
        let reason = match to {
            // Of the host nothing is there.
            "'https://${request(host)}/x'" => {
                "`https://${request(host)}/x` is no URL that a client could be sent to"
            }
            _ => "a request could choose the host that this leads to",
        };
        let help = match to {
            "'https://${request(host)}/x'" => "write `https://a.example/path`, or a path",
            _ => "write the host out, with a `/` behind it, or begin with `/`; `host` takes a template",
        };
        payload("Redirect", &format!("{{to: {to}}}"), to, reason, Some(help));
    }
    payload(
        "Redirect",
        "{to: 'javascript://a.b/x'}",
        "'javascript://a.b/x'",
        "`javascript://a.b/x` is no URL that a client could be sent to",
        Some("write `https://a.example/path`, or a path"),
    );
    payload("Redirect", "{host: a b}", "a b", "`a b` is no host", None);
    payload("Redirect", "{path: a}", "a", "`a` is no path", Some("a path begins with `/`"));
    payload(
        "Redirect",
        "{scheme: ftp}",
        "ftp",
        "unknown scheme of a redirect: `ftp`",
        Some("known: `http`, `https`"),
    );
}

#[test]
fn compression_knows_its_encodings_levels_and_media_types() {
    payload(
        "Compress",
        "{encodings: [gzip, brotli]}",
        "brotli",
        "unknown encoding: `brotli`",
        Some("known: `gzip`, `br`, `zstd`"),
    );
    payload(
        "Compress",
        "{encodings: []}",
        "encodings",
        "`encodings` lists none: there is nothing to compress with",
        None,
    );
    payload(
        "Compress",
        "{encodings: [br, br]}",
        "br",
        "this encoding is listed already, see nylon.yaml:21:63",
        None,
    );
    payload("Compress", "{levels: {br: 11}}", "11", "expected a whole number from 0 to 6, found 11", None);
    for media in ["json", "text/", "text/*x y", "text/html; charset=utf-8", "*/json"] {
        let quoted = format!("'{media}'");
        payload(
            "Compress",
            &format!("{{content_types: {quoted}}}"),
            &quoted,
            &format!("`{media}` is no media type"),
            Some("write `application/json`, `text/*` or `application/*+json`, without parameters"),
        );
    }
    case(
        PLAIN,
        "{plugin: Compress, per_phase: {response_body_filter: {on_error: continue}}}",
        "continue",
        "a body of which half is compressed is no body: it cannot go on after a failure",
        Some("leave it at `fail`"),
    );
}

#[test]
fn a_policy_for_a_phase_that_a_built_in_lacks_is_a_warning() {
    let item = "{plugin: Redirect, payload: {to: /x}, per_phase: {logging: {timeout_ms: 5}}}";
    assert_eq!(
        warnings(item),
        [("timeout_ms".to_owned(), "`Redirect` is not called in `logging`: this has no effect".to_owned())]
    );
}
