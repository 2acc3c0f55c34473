//! Names and values of header fields, wherever a configuration has some.

use http::HeaderName;

use crate::{kinds::Text, plan::MediaPattern, report::Report};

/// A field's name.
pub(super) fn name(text: &Text, report: &mut Report<'_>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.value.as_bytes()).ok();
    if name.is_none() {
        report.error(text.place, format!("`{}` is no header name", text.value));
    }
    name
}

/// Media types of a `content-type`.
pub(super) fn media(text: &Text, report: &mut Report<'_>) -> Option<MediaPattern> {
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let is_one = text.value.split_once('/').is_some_and(|(kind, rest)| {
        let rest =
            rest.strip_prefix('*').map_or(rest, |suffix| if suffix.is_empty() { "any" } else { suffix });
        is_token(kind) && is_token(rest)
    });
    if !is_one {
        report.error_help(
            text.place,
            format!("`{}` is no media type", text.value),
            "write `application/json`, `text/*` or `application/*+json`, without parameters",
        );
        return None;
    }
    Some(MediaPattern::of(&text.value))
}
