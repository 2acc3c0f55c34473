//! The plain kinds of values that sections are made of.

use std::time::Duration;

use nylon_core::template::{Hint, Template, TemplateError};
use serde_json::{Map, Value, json};

use crate::{
    msgpack, names, plan,
    read::{Read, ReadDefault, expected},
    report::Report,
    source::{Place, Spanned},
    tree::{Node, Tree},
};

/// Text that is not empty.
pub(crate) type Text = Spanned<String>;
/// `true` or `false`.
pub(crate) type Flag = Spanned<bool>;

/// Text that may be `${NAME}`: the value of an environment variable.
#[derive(Debug, Clone)]
pub(crate) struct EnvText(pub(crate) Text);

/// A whole number in a range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count<const MIN: u64, const MAX: u64> {
    pub(crate) value: u64,
    pub(crate) place: Place,
}

/// Milliseconds, from 1 to an hour.
pub(crate) type Millis = Count<1, 3_600_000>;

/// A time with its unit: `500ms`, `3s`, `2m`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) value: Duration,
    pub(crate) place: Place,
}

/// Text, perhaps empty, with parts that come from the request: `user-${header(x-user)}`.
pub(crate) type Templated = Spanned<Template>;

/// One value, or a list of them.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

/// `true` or `false`, or a section that says more.
#[derive(Debug, Clone)]
pub(crate) enum FlagOr<T> {
    Flag(Flag),
    Section(T),
}

/// `true` or `false`, or a text that says more.
#[derive(Debug, Clone)]
pub(crate) enum FlagOrText {
    Flag(Flag),
    Text(Text),
}

/// One address or a list; each item may be `${NAME}`, and then hold several, separated by commas.
#[derive(Debug, Clone)]
pub(crate) struct Servers(pub(crate) Vec<Text>);

/// A mapping from names that the configuration chooses.
#[derive(Debug, Clone)]
pub(crate) struct Named<T>(pub(crate) Vec<(Text, T)>);

/// Any value, handed to a plugin as it is.
#[derive(Debug, Clone)]
pub(crate) struct Anything(pub(crate) Value);

/// Any value: a handler's, or the settings of a built-in. Which of them is known where the plugin is.
#[derive(Debug, Clone)]
pub(crate) struct Payload(pub(crate) Node);

impl Payload {
    /// As a handler gets it: any text in it may be a template.
    pub(crate) fn encode(&self, report: &mut Report<'_>) -> plan::Payload {
        msgpack::encode(&self.0, &mut |text, place| template(text, place, report))
    }
}

/// Reads the items of a list; each wrong one is reported and left out.
impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let Tree::List(items) = &node.value else {
            return expected("a list", &node.value, node.place, report);
        };
        let read: Vec<T> = items.iter().filter_map(|item| T::read(item, report)).collect();
        // A list of which nothing could be read is not an empty list.
        (items.is_empty() || !read.is_empty()).then_some(read)
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({ "type": "array", "items": T::schema(defs) })
    }

    fn asks_nothing(&self) -> bool {
        self.is_empty()
    }
}

/// A section that may hold itself.
impl<T: Read> Read for Box<T> {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        T::read(node, report).map(Box::new)
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        T::schema(defs)
    }
}

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        match node.value {
            Tree::List(_) => Vec::read(node, report).map(OneOrMany),
            _ => T::read(node, report).map(|one| OneOrMany(vec![one])),
        }
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        let one = T::schema(defs);
        json!({ "anyOf": [one.clone(), { "type": "array", "items": one }] })
    }
}

impl Read for Text {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let text = text(node, report)?;
        if let Some(name) = variable(&text.value) {
            report.error_help(
                node.place,
                format!("`${{{name}}}` is not replaced here"),
                "environment variables stand in a messaging's `servers`, `auth` and `tls`, and in `group`, `file`, `module` and `config_dir`",
            );
        }
        Some(text)
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

impl ReadDefault for Text {
    type Written = &'static str;

    fn written(value: &'static str, place: Place) -> Option<Self> {
        Some(Spanned { value: value.to_owned(), place })
    }
}

impl Read for Templated {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let Tree::Text(text) = &node.value else {
            return expected("text", &node.value, node.place, report);
        };
        let value = template(text, node.place, report)?;
        Some(Spanned { value, place: node.place })
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({ "type": "string" })
    }
}

impl Read for EnvText {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let mut text = text(node, report)?;
        if let Some(name) = variable(&text.value) {
            text.value = environment(name, node.place, report)?;
        }
        Some(EnvText(text))
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        Text::schema(defs)
    }
}

impl Read for Servers {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let items = OneOrMany::<EnvText>::read(node, report)?.0;
        let split = items.into_iter().flat_map(|EnvText(item)| {
            let place = item.place;
            let parts: Vec<Text> = item
                .value
                .split(',')
                .map(|part| Text { value: part.trim().to_owned(), place })
                .filter(|part| !part.value.is_empty())
                .collect();
            parts
        });
        Some(Servers(split.collect()))
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        OneOrMany::<EnvText>::schema(defs)
    }
}

impl Read for Flag {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Tree::Bool(value) => Some(Flag { value: *value, place: node.place }),
            other => expected("true or false", other, node.place, report),
        }
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({ "type": "boolean" })
    }

    fn asks_nothing(&self) -> bool {
        !self.value
    }
}

impl<T: Read> Read for FlagOr<T> {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        match node.value {
            Tree::Bool(_) => Flag::read(node, report).map(FlagOr::Flag),
            Tree::Map(_) | Tree::Invalid => T::read(node, report).map(FlagOr::Section),
            _ => expected("true, false or a mapping", &node.value, node.place, report),
        }
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({ "anyOf": [Flag::schema(defs), T::schema(defs)] })
    }

    fn asks_nothing(&self) -> bool {
        match self {
            FlagOr::Flag(flag) => flag.asks_nothing(),
            FlagOr::Section(section) => section.asks_nothing(),
        }
    }
}

impl Read for FlagOrText {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        match node.value {
            Tree::Bool(_) => Flag::read(node, report).map(FlagOrText::Flag),
            Tree::Text(_) | Tree::Invalid => text(node, report).map(FlagOrText::Text),
            _ => expected("true, false or text", &node.value, node.place, report),
        }
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({ "anyOf": [Flag::schema(defs), Text::schema(defs)] })
    }
}

impl<const MIN: u64, const MAX: u64> Read for Count<MIN, MAX> {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let wanted = format!("a whole number from {MIN} to {MAX}");
        match &node.value {
            Tree::Number(number) => match number.as_u64().filter(|value| (MIN..=MAX).contains(value)) {
                Some(value) => Some(Count { value, place: node.place }),
                None => {
                    report.error(node.place, format!("expected {wanted}, found {number}"));
                    None
                }
            },
            other => expected(&wanted, other, node.place, report),
        }
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl<const MIN: u64, const MAX: u64> ReadDefault for Count<MIN, MAX> {
    type Written = u64;

    fn written(value: u64, place: Place) -> Option<Self> {
        Some(Count { value, place })
    }
}

/// The longest time that can be written: a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The time that a number and its unit name.
fn interval(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?)).filter(|time| *time <= LONGEST)
}

impl Read for Interval {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let text = match &node.value {
            Tree::Text(text) => text,
            other => return expected("a time as text, such as 3s or 500ms", other, node.place, report),
        };
        let Some(value) = interval(text) else {
            report.error_help(
                node.place,
                format!("`{text}` is no time"),
                "write a number and `ms`, `s`, `m` or `h`, at most 24h",
            );
            return None;
        };
        Some(Interval { value, place: node.place })
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" })
    }
}

impl ReadDefault for Interval {
    type Written = &'static str;

    fn written(text: &'static str, place: Place) -> Option<Self> {
        interval(text).map(|value| Interval { value, place })
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let Tree::Map(entries) = &node.value else {
            return expected("a mapping", &node.value, node.place, report);
        };
        let items = entries.iter().filter_map(|(name, node)| Some((name.clone(), T::read(node, report)?)));
        Some(Named(items.collect()))
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({ "type": "object", "additionalProperties": T::schema(defs) })
    }
}

impl Read for Anything {
    fn read(node: &Node, _: &mut Report<'_>) -> Option<Self> {
        Some(Anything(node.value.to_json()))
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({})
    }
}

impl Read for Payload {
    fn read(node: &Node, _: &mut Report<'_>) -> Option<Self> {
        Some(Payload(node.clone()))
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({})
    }
}

fn text(node: &Node, report: &mut Report<'_>) -> Option<Text> {
    match &node.value {
        Tree::Text(text) if !text.is_empty() => Some(Text { value: text.clone(), place: node.place }),
        Tree::Text(_) => {
            report.error(node.place, "expected text, found an empty one");
            None
        }
        other => expected("text", other, node.place, report),
    }
}

/// `NAME`, where `text` is `${NAME}` and nothing else.
fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    word.then_some(name)
}

fn environment(name: &str, place: Place, report: &mut Report<'_>) -> Option<String> {
    match (report.env)(name) {
        Some(value) if !value.is_empty() => Some(value),
        found => {
            let state = if found.is_some() { "empty" } else { "not set" };
            report.error(place, format!("the environment variable `{name}` is {state}"));
            None
        }
    }
}

/// Parses the template in the text at `place`; what is wrong with it is reported where it stands in the text.
fn template(text: &str, place: Place, report: &mut Report<'_>) -> Option<Template> {
    match Template::parse(text, report.env) {
        Ok(template) => Some(template),
        Err(TemplateError { span, reason, hint }) => {
            let part = &text[span.clone()];
            let place = part_of(text, &span, place, report);
            let help = match hint {
                Hint::None => None,
                Hint::Text(help) => Some(help),
                Hint::OneOf(known) => names::suggest(part.trim_matches(['\'', '"']), known),
            };
            match help {
                Some(help) => report.error_help(place, reason, help),
                None => report.error(place, reason),
            }
            None
        }
    }
}

/// Where the bytes `span` of `text` stand in the file, if the file has the text at `place` as it is; else (it is folded
/// over lines, or holds escapes) where all of it stands.
fn part_of(text: &str, span: &std::ops::Range<usize>, place: Place, report: &Report<'_>) -> Place {
    let written = report.sources.text(place.file).get(place.start..place.end);
    match written.and_then(|written| written.find(text)) {
        Some(found) => {
            let start = place.start + found;
            Place { file: place.file, start: start + span.start, end: start + span.end }
        }
        None => place,
    }
}
