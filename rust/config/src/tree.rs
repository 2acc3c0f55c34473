//! A YAML file as a tree of values with their places.
//!
//! A derived deserialiser stops at its first error and knows places only for the fields that ask; here every error
//! counts and every value has its place. So the parser's events become a small tree first, and the readers walk
//! that. JSON is YAML, so the same path reads both.

use std::collections::HashMap;

use serde_json::{Number, Value};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span, Tag};

use crate::{
    report::Report,
    source::{Place, Spanned},
};

/// Deeper nesting than this is no configuration.
const MAX_DEPTH: usize = 64;
/// More values than this that aliases repeat are no configuration. Those that are written out are as many as the file
/// is long.
const MAX_REPEATED: usize = 1_000_000;

const TAG: &str = "YAML tags have no meaning in a configuration";

/// A value and where it is written.
pub(crate) type Node = Spanned<Tree>;

/// A value as YAML's core schema sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    /// Could not be read, and was reported.
    Invalid,
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl PartialEq for Spanned<Tree> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Spanned<String> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Tree {
    /// What it is, for a reason that says what was found instead.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Tree::Invalid | Tree::Null => "nothing",
            Tree::Bool(_) => "true or false",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a mapping",
        }
    }

    /// The same as JSON.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Tree::Invalid | Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(value) => Value::Number(value.clone()),
            Tree::Text(value) => Value::String(value.clone()),
            Tree::List(items) => Value::Array(items.iter().map(|item| item.value.to_json()).collect()),
            Tree::Map(entries) => Value::Object(
                entries.iter().map(|(key, item)| (key.value.clone(), item.value.to_json())).collect(),
            ),
        }
    }

    fn count(&self) -> usize {
        match self {
            Tree::List(items) => 1 + items.iter().map(|item| item.value.count()).sum::<usize>(),
            Tree::Map(entries) => 1 + entries.iter().map(|(_, item)| item.value.count()).sum::<usize>(),
            _ => 1,
        }
    }
}

/// Reads file number `file`. `None`: it is no YAML, which is reported.
pub(crate) fn parse(file: u32, report: &mut Report<'_>) -> Option<Node> {
    let text = report.sources.text(file).to_owned();
    let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(&text, options),
        text: &text,
        file,
        anchors: HashMap::new(),
        repeated: 0,
        report,
    };
    builder.document().ok()
}

/// The file cannot be read further; the reason is reported.
struct Stop;

struct Builder<'t, 'r, 'e> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    text: &'t str,
    file: u32,
    anchors: HashMap<usize, Node>,
    repeated: usize,
    report: &'r mut Report<'e>,
}

impl<'t> Builder<'t, '_, '_> {
    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        while let Some((event, place)) = self.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::DocumentStart(..) => {}
                event if root.is_none() => root = Some(self.node(event, place, 0)?),
                _ => {
                    self.report
                        .error(place, "a second YAML document in one file; put it into a file of its own");
                    return Err(Stop);
                }
            }
        }
        Ok(root.unwrap_or(Node { value: Tree::Null, place: Place { file: self.file, start: 0, end: 0 } }))
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Place)>, Stop> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, self.place(&span)))),
            Some(Err(error)) => {
                let start = error.marker().byte_offset().unwrap_or(self.text.len());
                let place = Place { file: self.file, start, end: start };
                let reason = format!("not valid YAML: {}", error.info());
                let line = self.report.sources.location(place).source;
                match &*line {
                    line if line.contains("${") => {
                        self.report.error_help(
                            place,
                            reason,
                            "between brackets, `${NAME}` must stand in quotes",
                        );
                    }
                    line if line.contains('\t') => {
                        self.report.error_help(place, reason, "YAML is indented with spaces, not with tabs");
                    }
                    _ => self.report.error(place, reason),
                }
                Err(Stop)
            }
        }
    }

    fn place(&self, span: &Span) -> Place {
        let start = span.start.byte_offset().unwrap_or(0);
        Place { file: self.file, start, end: span.end.byte_offset().unwrap_or(start).max(start) }
    }

    /// The value that `event` starts.
    fn node(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, Stop> {
        if depth > MAX_DEPTH {
            self.report.error(place, "nested too deeply for a configuration");
            return Err(Stop);
        }
        let (value, anchor, place) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(text.into_owned(), style, tag.as_deref(), place);
                (value, anchor, place)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), place);
                let items = self.list(depth)?;
                (Tree::List(items), anchor, place)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), place);
                let entries = self.map(depth)?;
                // Its first key says more than its bracket, and a mapping in block style has none.
                let place = entries.first().map_or(place, |(key, _)| key.place);
                (Tree::Map(entries), anchor, place)
            }
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id) else {
                    self.report.error(place, "an alias inside the very value that it names");
                    return Err(Stop);
                };
                self.repeated += target.value.count();
                if self.repeated > MAX_REPEATED {
                    self.report.error(place, "aliases expand to more than a configuration can be");
                    return Err(Stop);
                }
                return Ok(target.clone());
            }
            Event::UnresolvedAlias(name) => {
                self.report.error(place, format!("no anchor `&{name}` stands before this alias"));
                (Tree::Invalid, 0, place)
            }
            _ => (Tree::Null, 0, place),
        };
        let node = Node { value, place };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        while let Some((event, place)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, place, depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Spanned<String>, Node)>, Stop> {
        let mut entries: Vec<(Spanned<String>, Node)> = Vec::new();
        let mut merged = Vec::new();
        while let Some((event, place)) = self.next()? {
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => {
                    if text == "<<" && style == ScalarStyle::Plain {
                        let value = self.value(depth)?;
                        self.merge_key(value, &mut merged);
                        continue;
                    }
                    Spanned { value: text.into_owned(), place }
                }
                event => {
                    self.node(event, place, depth + 1)?;
                    self.value(depth)?;
                    self.report.error(place, "a key must be plain text");
                    continue;
                }
            };
            let mut value = self.value(depth)?;
            if value.value == Tree::Null && value.place.start == value.place.end {
                value.place = key.place;
            }
            match entries.iter().find(|(known, _)| known.value == key.value) {
                Some((first, _)) => {
                    let reason = format!(
                        "`{}` stands here twice; first at {}",
                        key.value,
                        self.report.at(first.place)
                    );
                    self.report.error(key.place, reason);
                }
                None => entries.push((key, value)),
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(known, _)| known.value == key.value) {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    fn value(&mut self, depth: usize) -> Result<Node, Stop> {
        match self.next()? {
            Some((event, place)) => self.node(event, place, depth + 1),
            None => Err(Stop),
        }
    }

    /// `<<: *base` or `<<: [*a, *b]`: entries for keys that the mapping itself does not have; earlier ones win.
    fn merge_key(&mut self, value: Node, merged: &mut Vec<(Spanned<String>, Node)>) {
        match value.value {
            Tree::Map(entries) => merged.extend(entries),
            Tree::List(items) => items.into_iter().for_each(|item| self.merge_key(item, merged)),
            Tree::Invalid => {}
            other => {
                self.report.error(value.place, format!("`<<` takes a mapping, found {}", other.kind()));
            }
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Tree {
        let core = tag.and_then(Tag::core_suffix);
        match (tag, core) {
            (None, _) if style == ScalarStyle::Plain => plain(&text),
            (None, _) | (_, Some("str")) => Tree::Text(text),
            (_, Some("null" | "bool" | "int" | "float")) => plain(&text),
            _ => {
                self.report.error(place, TAG);
                Tree::Invalid
            }
        }
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, place: Place) {
        if tag.is_some_and(|tag| !matches!(tag.core_suffix(), Some("map" | "seq"))) {
            self.report.error(place, TAG);
        }
    }
}

/// What an unquoted scalar means in YAML 1.2's core schema.
fn plain(text: &str) -> Tree {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Tree::Null,
        "true" | "True" | "TRUE" => return Tree::Bool(true),
        "false" | "False" | "FALSE" => return Tree::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Tree::Text(text.to_owned());
    }
    let radix = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix)?;
        (!digits.starts_with(['-', '+'])).then(|| u64::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Tree::Number(number.into());
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(number) = text.trim_start_matches('+').parse::<i64>() {
            return Tree::Number(number.into());
        }
        if let Ok(number) = text.trim_start_matches('+').parse::<u64>() {
            return Tree::Number(number.into());
        }
    }
    let float_like =
        digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    match text.parse::<f64>().ok().filter(|_| float_like).and_then(Number::from_f64) {
        Some(number) => Tree::Number(number),
        None => Tree::Text(text.to_owned()),
    }
}
