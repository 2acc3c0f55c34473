//! Templates in payloads: each mistake with its own place inside the text.

use super::{VALID, case, check};

/// One error in a payload, at `text`.
fn payload(payload: &str, text: &str, reason: &str, help: Option<&str>) {
    case("payload: {k: v}", &format!("payload: {payload}"), text, reason, help);
}

#[test]
fn a_mistake_in_a_template_is_shown_where_it_stands() {
    payload(
        "{k: ['x-${heder(a)}', 1]}",
        "heder",
        "unknown template function: `heder`",
        Some("did you mean `header`?"),
    );
    payload("{k: {deep: \"${upper()} \"}}", "upper", "`upper` takes one argument, found 0", None);
    payload(
        "{k: 'a ${header(x)'}",
        "${header(x)",
        "`${` is not closed",
        Some("close it with `}`; for the characters themselves write `$${`"),
    );
    payload(
        "{k: '${request(remote)}'}",
        "remote",
        "a request has no `remote`",
        Some("known: `client_ip`, `host`, `id`, `method`, `path`, `query`, `scheme`, `tls`"),
    );
    payload("{k: '${uuid(v1)}'}", "v1", "unknown version of a UUID: `v1`", Some("did you mean `v4`?"));
    payload(
        "{k: '${or(header(x), none)}'}",
        "none",
        "`none` is neither a call nor text in quotes",
        Some("write `'none'` for the text"),
    );
    payload(
        "{k: '${HOME}'}",
        "HOME",
        "`HOME` is no template",
        Some("an environment variable is `${env(HOME)}`; for the text itself write `$${HOME}`"),
    );
}

#[test]
fn a_text_that_the_file_has_otherwise_is_shown_whole() {
    payload(
        "{k: \"\\x41${heder(a)}\"}",
        "\"\\x41${heder(a)}\"",
        "unknown template function: `heder`",
        Some("did you mean `header`?"),
    );
    payload(
        "{k: '${or(''a'', b)}'}",
        "'${or(''a'', b)}'",
        "`b` is neither a call nor text in quotes",
        Some("write `'b'` for the text"),
    );
}

#[test]
fn what_only_looks_like_a_template_is_text() {
    for payload in ["'$${a}'", "'$ {a}'", "'{header(x)}'", "'$(x)'", "'a$'"] {
        check(&VALID.replace("payload: {k: v}", &format!("payload: {{k: {payload}}}")))
            .unwrap_or_else(|errors| panic!("{errors}"));
    }
}
