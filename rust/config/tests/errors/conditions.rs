//! `when:` of a middleware.

use super::case;

const PLAIN: &str = "entry: e, payload: {k: v}";

/// One error in the condition `when` of a middleware.
fn when(condition: &str, text: &str, reason: &str, help: Option<&str>) {
    case(PLAIN, &format!("entry: e, when: {condition}"), text, reason, help);
}

#[test]
fn a_condition_that_says_nothing_or_cannot_be_read_is_an_error() {
    when(
        "{methods: []}",
        "methods",
        "an empty list of `methods`",
        Some("leave the key out where it does not matter"),
    );
    when(
        "{methods: [get]}",
        "get",
        "no request has the method `get`",
        Some("methods are in capitals: `GET`"),
    );
    when("{paths: /a}", "paths", "unknown key `paths` in `when`", Some("did you mean `path`?"));
    when("{path: a}", "a", "the path `a` does not begin with `/`", Some("write `/a`"));
    when(
        "{path: ['/{a}', '/{b}']}",
        "'/{b}'",
        "`/{b}` cannot be told apart from `/{a}`, see nylon.yaml:21:60",
        Some("write one pattern in both and give them different `methods`, or change a fixed part"),
    );
    when(
        "{header: x-a}",
        "x-a",
        "expected a mapping, found text",
        Some("`header` of `when` has the keys `name`, `value`, `prefix`"),
    );
    when("{header: {value: a}}", "value", "`header` of `when` needs the key `name`", None);
    when("{header: {name: x a}}", "x a", "`x a` is no header name", None);
    when("{header: {name: x, value: ' a'}}", "' a'", "` a` is no header value", None);
    when(
        "{header: {name: x, value: a, prefix: b}}",
        "name",
        "a header has either a `value` or a `prefix`",
        None,
    );
    when(
        "{content_type: json}",
        "json",
        "`json` is no media type",
        Some("write `application/json`, `text/*` or `application/*+json`, without parameters"),
    );
    when(
        "{not: {content_type: '*/*'}}",
        "'*/*'",
        "`*/*` is no media type",
        Some("write `application/json`, `text/*` or `application/*+json`, without parameters"),
    );
    case(
        "[{group: safe}]",
        "[{group: safe, when: {not: yes}}]",
        "yes",
        "expected a mapping, found text",
        Some("`when` has the keys `methods`, `header`, `path`, `content_type`, `not`"),
    );
}

#[test]
fn an_empty_condition_is_an_error() {
    when(
        "{methods: }",
        "methods",
        "`when` says nothing",
        Some("name `methods`, `header`, `path`, `content_type` or `not`"),
    );
}
