//! Header names and values, and the modifiers of heads.

use http::{HeaderName, HeaderValue, header};
use nylon_core::template::Template;

use super::super::fields;
use crate::{
    kinds::{Templated, Text},
    plan::HeaderChanges,
    raw,
    report::Report,
};

/// Fields that the gateway writes itself on each connection (RFC 9110, 7.6.1; RFC 9112, 6): a value of somebody else's
/// would say something untrue of the message's end.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    HeaderName::from_static("http2-settings"),
];

pub(super) fn changes(written: &raw::HeaderModifier, report: &mut Report<'_>) -> Option<HeaderChanges> {
    if !["set", "add", "remove"].iter().any(|key| written.has(key)) {
        report.error_help(
            written.place,
            "a header modifier with nothing to change",
            "write `set: [{name: x-a, value: b}]`, `add` or `remove: [x-c]`",
        );
        return None;
    }
    let remove = written.remove.iter().flatten().map(|name| changeable(name, report)).collect::<Vec<_>>();
    let set = fields(written.set.as_ref(), report);
    let add = fields(written.add.as_ref(), report);
    Some(HeaderChanges { remove: remove.into_iter().collect::<Option<_>>()?, set: set?, add: add? })
}

fn fields(
    written: Option<&raw::HeaderFields>,
    report: &mut Report<'_>,
) -> Option<Vec<(HeaderName, Template)>> {
    let written = written.map_or(&[][..], |fields| &fields.0);
    let fields: Vec<_> = written
        .iter()
        .map(|(name, value)| Some((changeable(name, report), field_value(value, report)?)))
        .collect();
    fields.into_iter().map(|field| field.and_then(|(name, value)| Some((name?, value)))).collect()
}

/// The name of a field that a configuration may change.
pub(super) fn changeable(text: &Text, report: &mut Report<'_>) -> Option<HeaderName> {
    let name = fields::name(text, report)?;
    if OF_THE_CONNECTION.contains(&name) {
        report.error(
            text.place,
            format!("`{name}` belongs to one connection: the gateway writes it itself, and nobody else can"),
        );
        return None;
    }
    Some(name)
}

/// A value that fits a field wherever it is known beforehand.
pub(super) fn field_value(text: &Templated, report: &mut Report<'_>) -> Option<Template> {
    if text.value.constant().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
        report.error(text.place, "a header value holds no line break and no other control character");
        return None;
    }
    Some(text.value.clone())
}
