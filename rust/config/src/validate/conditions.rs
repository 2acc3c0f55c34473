//! `when:` of a middleware: the requests that it is for.

use http::HeaderValue;

use super::{fields, paths::Patterns, routes};
use crate::{
    kinds::{OneOrMany, Text},
    plan::{Condition, HeaderCondition, PathSet, ValueCondition},
    raw,
    report::Report,
    source::Place,
};

/// The condition. What cannot be read of it is reported, so that no plan comes of what is left.
pub(super) fn condition(written: &raw::When, report: &mut Report<'_>) -> Condition {
    if !["methods", "header", "path", "content_type", "not"].iter().any(|key| written.has(key)) {
        report.error_help(
            written.place,
            "`when` says nothing",
            "name `methods`, `header`, `path`, `content_type` or `not`",
        );
    }
    let methods = alternatives(written.methods.as_ref(), "methods", written.place, report);
    let headers = alternatives(written.header.as_ref(), "header", written.place, report);
    let types = alternatives(written.content_type.as_ref(), "content_type", written.place, report);
    let paths = alternatives(written.path.as_ref(), "path", written.place, report);
    let mut patterns = Patterns::default();
    let patterns: Vec<_> = paths.iter().filter_map(|text| patterns.add(text, &[], report)).collect();
    Condition {
        methods: routes::methods(methods, report),
        headers: headers.iter().filter_map(|item| header(item, report)).collect(),
        paths: written.path.as_ref().and_then(|_| PathSet::new(patterns)),
        content_types: types.iter().filter_map(|text| fields::media(text, report)).collect(),
        not: written.not.as_ref().map(|inner| Box::new(condition(inner, report))),
    }
}

/// What stands in a key's list, which is not empty.
fn alternatives<'w, T>(
    written: Option<&'w OneOrMany<T>>,
    key: &str,
    place: Place,
    report: &mut Report<'_>,
) -> &'w [T] {
    let items = written.map_or(&[][..], |OneOrMany(items)| items);
    if written.is_some() && items.is_empty() {
        report.error_help(
            place,
            format!("an empty list of `{key}`"),
            "leave the key out where it does not matter",
        );
    }
    items
}

fn header(written: &raw::WhenHeader, report: &mut Report<'_>) -> Option<HeaderCondition> {
    let name = fields::name(written.name.as_ref()?, report)?;
    let exact = alternatives(written.value.as_ref(), "value", written.place, report);
    let prefixes = alternatives(written.prefix.as_ref(), "prefix", written.place, report);
    if written.has("value") && written.has("prefix") {
        report.error(written.place, "a header has either a `value` or a `prefix`");
    }
    let value = match (exact, prefixes) {
        ([], []) => ValueCondition::Present,
        (exact, []) => ValueCondition::Exact(values(exact, report)),
        (_, prefixes) => ValueCondition::Prefix(values(prefixes, report)),
    };
    Some(HeaderCondition { name, value })
}

fn values(texts: &[Text], report: &mut Report<'_>) -> Vec<String> {
    for text in texts {
        // Whitespace around a value is no part of it, and no request brings it.
        if HeaderValue::from_str(&text.value).is_err() || text.value.trim() != text.value {
            report.error(text.place, format!("`{}` is no header value", text.value));
        }
    }
    texts.iter().map(|text| text.value.clone()).collect()
}
