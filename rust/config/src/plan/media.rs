//! Media types that a configuration means.

use http::HeaderValue;

/// Media types, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaPattern {
    /// This one: `application/json`.
    Exact(String),
    /// All that begin with this: `text/`.
    Type(String),
    /// All that begin with the first and end with the second: `application/` and `+json`.
    Suffix(String, String),
}

impl MediaPattern {
    /// The pattern that is written so: `text/*`, `application/*+json`.
    pub(crate) fn of(text: &str) -> MediaPattern {
        let text = text.to_ascii_lowercase();
        match text.split_once('*') {
            None => MediaPattern::Exact(text),
            Some((kind, "")) => MediaPattern::Type(kind.to_owned()),
            Some((kind, suffix)) => MediaPattern::Suffix(kind.to_owned(), suffix.to_owned()),
        }
    }

    /// Whether one of `patterns` is for a message with this `content-type`, whatever its parameters.
    pub fn any(patterns: &[MediaPattern], content_type: &HeaderValue) -> bool {
        let Ok(text) = content_type.to_str() else { return false };
        let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        patterns.iter().any(|pattern| match pattern {
            MediaPattern::Exact(known) => media == *known,
            MediaPattern::Type(kind) => media.starts_with(kind.as_str()),
            MediaPattern::Suffix(kind, suffix) => {
                media.strip_prefix(kind.as_str()).is_some_and(|rest| rest.ends_with(suffix.as_str()))
            }
        })
    }
}
