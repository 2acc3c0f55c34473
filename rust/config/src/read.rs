//! Typed readers over the tree, and the `section!` macro that declares a section once.
//!
//! A section's keys, their types, defaults and meanings stand in one declaration (in `raw.rs`), from which come the
//! struct, its reader and its JSON Schema: they cannot drift apart. A reader reports what is wrong and goes on, so
//! that one mistake never hides another: a misspelt key or word is read as what was probably meant.

use serde_json::{Map, Value, json};

use crate::{
    names,
    report::Report,
    source::Place,
    tree::{Node, Tree},
};

/// What the outermost section is called in reasons.
pub(crate) const ROOT: &str = "the configuration";

/// A type that can stand in a configuration.
pub(crate) trait Read: Sized {
    /// Reads `node`. `None`: it is something else, which is reported.
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self>;

    /// Its JSON Schema; sections put theirs into `defs` and return a reference.
    fn schema(defs: &mut Map<String, Value>) -> Value;

    /// Whether this value of a key asks for nothing (`daemon: false`, `https: []`): such a value is fine even where
    /// the feature is not available.
    fn asks_nothing(&self) -> bool {
        false
    }
}

/// A type whose values can be written as a default in a declaration.
pub(crate) trait ReadDefault: Read {
    type Written: Copy + Into<Value>;
    fn written(value: Self::Written, place: Place) -> Option<Self>;
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It must stand there.
    Required,
    /// It may stand there.
    Optional,
    /// It is read and checked, but this version cannot do it.
    Later,
    /// It has no effect here and does no harm: a warning.
    Ignored,
}

/// A key of a section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its spellings, the preferred one first.
    pub(crate) names: &'static [&'static str],
    pub(crate) used: Use,
    pub(crate) about: &'static [&'static str],
}

/// The keys of one mapping, matched with what the section knows.
pub(crate) struct Fields<'n> {
    pub(crate) place: Place,
    what: &'static str,
    keys: &'static [Key],
    found: Vec<Option<(Place, &'n Node)>>,
    next: usize,
}

impl<'n> Fields<'n> {
    pub(crate) fn open(
        node: &'n Node,
        what: &'static str,
        keys: &'static [Key],
        report: &mut Report<'_>,
    ) -> Option<Fields<'n>> {
        let entries = match &node.value {
            Tree::Map(entries) => entries.as_slice(),
            Tree::Null => &[],
            Tree::Invalid => return None,
            other => {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{}`", key.names[0])).collect();
                let reason = format!("expected a mapping, found {}", other.kind());
                report.error_help(node.place, reason, format!("{what} has the keys {}", keys.join(", ")));
                return None;
            }
        };
        let mut fields = Fields { place: node.place, what, keys, found: vec![None; keys.len()], next: 0 };
        let mut strangers = Vec::new();
        for (name, value) in entries {
            match keys.iter().position(|key| key.names.contains(&name.value.as_str())) {
                Some(at) => match fields.found[at] {
                    Some((first, _)) => {
                        let first = report.at(first);
                        report.error(name.place, format!("`{}` repeats the key at {first}", name.value));
                    }
                    None => fields.found[at] = Some((name.place, value)),
                },
                None => strangers.push((name, value)),
            }
        }
        for (name, value) in strangers {
            let reason = format!("unknown key `{}` in {what}", name.value);
            let free: Vec<&str> = (0..keys.len())
                .filter(|at| fields.found[*at].is_none())
                .flat_map(|at| keys[at].names)
                .copied()
                .collect();
            let all: Vec<&str> = keys.iter().flat_map(|key| key.names).copied().collect();
            let meant = names::nearest(&name.value, &free);
            match meant
                .map(|meant| format!("did you mean `{meant}`?"))
                .or_else(|| names::suggest(&name.value, &all))
            {
                Some(help) => report.error_help(name.place, reason, help),
                None => report.error(name.place, reason),
            }
            let meant = keys.iter().position(|key| meant.is_some_and(|meant| key.names.contains(&meant)));
            if let Some(at) = meant {
                fields.found[at] = Some((name.place, value));
            }
        }
        Some(fields)
    }

    /// The keys that are written with a value, readable or not.
    pub(crate) fn present(&self) -> Vec<&'static str> {
        let written = |at: &usize| self.found[*at].is_some_and(|(_, node)| node.value != Tree::Null);
        (0..self.keys.len()).filter(written).map(|at| self.keys[at].names[0]).collect()
    }

    /// Reads the next key in the order of the declaration.
    pub(crate) fn take<T: Read>(&mut self, report: &mut Report<'_>) -> Option<T> {
        let key = self.keys[self.next];
        let found = self.found[self.next];
        self.next += 1;
        let name = key.names[0];
        let Some((place, node)) = found.filter(|(_, node)| node.value != Tree::Null) else {
            match found {
                _ if key.used == Use::Required => {
                    report.error(
                        found.map_or(self.place, |(place, _)| place),
                        format!("{} needs the key `{name}`", self.what),
                    );
                }
                Some((place, node)) if node.place == place => {
                    report.warn(place, format!("`{name}` has no value and is left out"));
                }
                _ => {}
            }
            return None;
        };
        if key.used == Use::Ignored {
            report.warn(place, format!("`{name}` has no effect in this gateway"));
        }
        let value = T::read(node, report)?;
        if key.used == Use::Later && !value.asks_nothing() {
            let owner = if self.what == ROOT { String::new() } else { format!(" of {}", self.what) };
            report.unavailable(place, &format!("`{name}`{owner}"));
        }
        Some(value)
    }

    /// The same for a key with a default.
    pub(crate) fn take_or<T: ReadDefault>(
        &mut self,
        default: T::Written,
        report: &mut Report<'_>,
    ) -> Option<T> {
        let written = self.found[self.next].is_some_and(|(_, node)| node.value != Tree::Null);
        let value = self.take(report);
        if written { value } else { T::written(default, self.place) }
    }
}

/// Reports that something else stands where `wanted` should.
pub(crate) fn expected<T>(wanted: &str, found: &Tree, place: Place, report: &mut Report<'_>) -> Option<T> {
    let reason = format!("expected {wanted}, found {}", found.kind());
    match found {
        Tree::Invalid => {}
        Tree::Number(_) | Tree::Bool(_) if wanted.contains("text") => {
            report.error_help(place, reason, "put it in quotes");
        }
        Tree::Text(text)
            if wanted.starts_with("a whole number") && text.bytes().all(|b| b.is_ascii_digit()) =>
        {
            report.error_help(place, reason, "leave out the quotes");
        }
        Tree::Text(text) if wanted == "a list" => {
            report.error_help(place, reason, format!("write `[{text}]`"))
        }
        Tree::Text(text) if wanted == "true or false" => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" => report.error_help(place, reason, "write `true`"),
            "no" | "off" | "n" => report.error_help(place, reason, "write `false`"),
            _ => report.error(place, reason),
        },
        _ => report.error(place, reason),
    }
    None
}

/// Puts the schema of a section into `defs` once.
pub(crate) fn section_schema(
    name: &str,
    about: &[&str],
    defs: &mut Map<String, Value>,
    fields: impl FnOnce(&mut Map<String, Value>) -> Vec<(Key, Value, Option<Value>)>,
) -> Value {
    let reference = json!({ "$ref": format!("#/$defs/{name}") });
    if defs.contains_key(name) {
        return reference;
    }
    defs.insert(name.to_owned(), Value::Null); // taken: a section may hold itself
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (key, schema, default) in fields(defs) {
        let mut text = prose(key.about);
        match key.used {
            Use::Later => text.push_str(" Not available in this version."),
            Use::Ignored => text.push_str(" Has no effect."),
            Use::Required => required.push(Value::from(key.names[0])),
            Use::Optional => {}
        }
        for (at, spelling) in key.names.iter().enumerate() {
            let mut schema = schema.clone();
            schema["description"] = if at == 0 {
                text.clone().into()
            } else {
                format!("Another spelling of `{}`. {text}", key.names[0]).into()
            };
            if let Some(default) = &default {
                schema["default"] = default.clone();
            }
            properties.insert((*spelling).to_owned(), schema);
        }
    }
    let mut section = json!({
        "type": "object",
        "description": prose(about),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        section["required"] = required.into();
    }
    defs.insert(name.to_owned(), section);
    reference
}

/// Doc comments as one paragraph.
fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Declares a section: the struct as written, its reader and its schema.
///
/// Each key: its meaning as doc comments, its use (`required`, `optional`, `later`, `ignored`), the field, the
/// spellings, the type, and where there is one the default.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:ident $what:expr, {
            $( $(#[doc = $doc:literal])* $used:ident $field:ident ($($spelling:literal)|+): $kind:ty $(= $default:literal)?; )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        #[allow(dead_code, reason = "keys of features that are not available are read, but nothing uses them")]
        pub(crate) struct $name {
            pub(crate) place: $crate::source::Place,
            present: Vec<&'static str>,
            $( $(#[doc = $doc])* pub(crate) $field: Option<$kind>, )*
        }

        impl $name {
            const KEYS: &'static [$crate::read::Key] = &[
                $( $crate::read::Key {
                    names: &[$($spelling),+],
                    used: section!(@used $used),
                    about: &[$($doc),*],
                }, )*
            ];

            /// Whether the key is written, be its value readable or (as was reported) not.
            #[allow(dead_code, reason = "not every section has keys that depend on each other")]
            pub(crate) fn has(&self, key: &str) -> bool {
                self.present.contains(&key)
            }
        }

        impl $crate::read::Read for $name {
            fn read(node: &$crate::tree::Node, report: &mut $crate::report::Report<'_>) -> Option<Self> {
                let mut fields = $crate::read::Fields::open(node, $what, Self::KEYS, report)?;
                Some($name {
                    place: fields.place,
                    present: fields.present(),
                    $( $field: section!(@take fields, report $(, $default)?), )*
                })
            }

            fn schema(defs: &mut serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
                $crate::read::section_schema(stringify!($name), &[$($about),*], defs, |defs| {
                    let mut keys = Self::KEYS.iter();
                    let mut fields = Vec::new();
                    $( if let Some(key) = keys.next() {
                        let schema = <$kind as $crate::read::Read>::schema(defs);
                        fields.push((*key, schema, section!(@json $($default)?)));
                    } )*
                    fields
                })
            }

            fn asks_nothing(&self) -> bool {
                section!(@nothing self $($field)*)
            }
        }
    };
    (@used required) => { $crate::read::Use::Required };
    (@used optional) => { $crate::read::Use::Optional };
    (@used later) => { $crate::read::Use::Later };
    (@used ignored) => { $crate::read::Use::Ignored };
    (@take $fields:ident, $report:ident) => { $fields.take($report) };
    (@take $fields:ident, $report:ident, $default:literal) => { $fields.take_or($default, $report) };
    (@json) => { None };
    (@json $default:literal) => { Some(serde_json::Value::from($default)) };
    // A section whose first key is `enabled` asks for nothing when that says false.
    (@nothing $self:ident enabled $($rest:ident)*) => {
        $self.enabled.as_ref().is_some_and(|enabled| !enabled.value)
    };
    (@nothing $self:ident $($rest:ident)*) => { false };
}

/// Declares the words that may stand at one place; `later` ones are known, but not available.
macro_rules! choice {
    (
        $(#[doc = $about:literal])*
        $name:ident $what:literal { $( $(#[doc = $doc:literal])* $used:ident $word:literal => $variant:ident, )+ }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $( $(#[doc = $doc])* $variant, )+ }

        impl $name {
            const WORDS: &'static [(&'static str, $name, bool)] =
                &[$( ($word, $name::$variant, choice!(@later $used)), )+];
        }

        impl $crate::read::Read for $crate::source::Spanned<$name> {
            fn read(node: &$crate::tree::Node, report: &mut $crate::report::Report<'_>) -> Option<Self> {
                let words = $name::WORDS.iter().map(|(word, value, later)| (*word, *value, *later));
                let words: Vec<_> = words.collect();
                let value = $crate::read::word(node, $what, &words, report)?;
                Some($crate::source::Spanned { value, place: node.place })
            }

            fn schema(_: &mut serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
                let words: Vec<&str> = $name::WORDS.iter().map(|(word, ..)| *word).collect();
                serde_json::json!({ "enum": words })
            }
        }
    };
    (@later now) => { false };
    (@later later) => { true };
}

pub(crate) use {choice, section};

/// One of `words`; a misspelt one is reported and read as the nearest.
pub(crate) fn word<T: Copy>(
    node: &Node,
    what: &str,
    words: &[(&str, T, bool)],
    report: &mut Report<'_>,
) -> Option<T> {
    let Tree::Text(text) = &node.value else {
        return expected("text", &node.value, node.place, report);
    };
    if let Some((word, value, later)) = words.iter().find(|(word, ..)| word == text) {
        if *later {
            report.unavailable(node.place, &format!("{what} `{word}`"));
        }
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, ..)| *word).collect();
    report.unknown(node.place, what, text, known.iter().copied());
    let meant = names::nearest(text, &known)?;
    words.iter().find(|(word, ..)| *word == meant).map(|(_, value, _)| *value)
}
