//! The configuration's files and places in them.
//!
//! A place is a file and a byte range; line and column are worked out only when somebody has to be told, because
//! a valid configuration never needs them. Columns count characters from 1, as editors do.

use std::{
    cell::RefCell,
    ops::Range,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use regex::Regex;

use crate::diagnostic::{Diagnostic, Location};

/// A range of bytes in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// One file as it was read.
struct Source {
    name: Arc<str>,
    text: String,
    /// What relative paths in it start from.
    base_dir: PathBuf,
    /// Where its lines start.
    lines: Vec<usize>,
}

/// All files of one configuration.
#[derive(Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
    /// What was located last: the next place is mostly behind it in the same line of the same file, and in a file that
    /// a program wrote as one line that line is not searched from its start for each of its places.
    last: RefCell<Option<Located>>,
}

/// A place that was worked out.
struct Located {
    file: u32,
    line: usize,
    start: usize,
    column: usize,
    shown: Arc<str>,
}

impl Sources {
    /// Takes a file in, and returns its number.
    pub(crate) fn add(&mut self, name: &str, text: String, base_dir: PathBuf) -> u32 {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.files.push(Source { name: name.into(), text, base_dir, lines });
        u32::try_from(self.files.len() - 1).expect("a configuration has fewer than 2^32 files")
    }

    pub(crate) fn text(&self, file: u32) -> &str {
        &self.files[file as usize].text
    }

    pub(crate) fn base_dir(&self, file: u32) -> &std::path::Path {
        &self.files[file as usize].base_dir
    }

    /// `file:line:column` of `place`, and the line itself, without the secrets in it. The width never reaches past
    /// the line's end.
    pub(crate) fn location(&self, place: Place) -> Location {
        let source = &self.files[place.file as usize];
        let text = source.text.as_str();
        let start = floor_boundary(text, place.start);
        let end = floor_boundary(text, place.end.max(start));
        let line = source.lines.partition_point(|first| *first <= start);
        let line_start = source.lines[line - 1];
        let line_end = source.lines.get(line).map_or(text.len(), |next| next - 1);
        let written = text[line_start..line_end].trim_end_matches('\r');
        let visible_end = (line_start + written.len()).max(start);
        let mut last = self.last.borrow_mut();
        let known = last.take().filter(|last| last.file == place.file && last.line == line);
        let (from, before) = match &known {
            Some(last) if last.start <= start => (last.start, last.column),
            _ => (line_start, 1),
        };
        let column = before + text[from..start].chars().count();
        let shown = known.map_or_else(|| without_secrets(written).into(), |last| last.shown);
        *last = Some(Located { file: place.file, line, start, column, shown: Arc::clone(&shown) });
        Location {
            file: source.name.clone(),
            line,
            column,
            width: text[start..end.min(visible_end)].chars().count().max(1),
            source: shown,
        }
    }

    /// A diagnostic about `place`.
    pub(crate) fn diagnostic(&self, place: Place, reason: String, suggestion: Option<String>) -> Diagnostic {
        let mut diagnostic = self.location(place).diagnostic(reason);
        diagnostic.suggestion = suggestion;
        diagnostic
    }
}

/// The line as it may be shown: a star for each character of a password or a token, so that columns stay as they
/// are. Found in the text and not by key, since a file that is no YAML has no keys.
fn without_secrets(line: &str) -> String {
    static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?x)
            (?i: pass(?: [a-hj-z0-9_] \w* )? | tok\w* | \w*secret | eab_hmac_key ) ["']? \s* : \s*
                (?: "(?<double>[^"]*) | '(?<single>[^']*) | (?<flow>[^\s"',}\]][^,}\]]*) )
            | (?: ^ | // | [\s"'\[,] ) (?<user>[^\s/@"'\[,]+) @
            "#,
        )
        .expect("the pattern is valid, which a test shows")
    });
    let mut hidden: Vec<Range<usize>> = Vec::new();
    for found in SECRETS.captures_iter(line) {
        for name in ["double", "single", "flow", "user"] {
            let Some(secret) = found.name(name) else { continue };
            // The name of an environment variable is no secret.
            if secret.as_str().starts_with("${") {
                continue;
            }
            // Outside braces a plain text ends with the line.
            let plain = name == "flow" && !line[..secret.start()].contains('{');
            hidden.push(secret.start()..if plain { line.len() } else { secret.end() });
        }
    }
    let is_hidden = |at: usize| hidden.iter().any(|range| range.contains(&at));
    line.char_indices().map(|(at, c)| if is_hidden(at) { '*' } else { c }).collect()
}

/// The nearest character boundary at or before `at`, inside `text`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location_of(text: &str, needle: &str) -> Location {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", text.to_owned(), PathBuf::new());
        let start = text.find(needle).expect("the needle is in the text");
        sources.location(Place { file, start, end: start + needle.len() })
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let location = location_of("a: 1\nß·é: x\n", "x");
        assert_eq!((location.line, location.column, location.width), (2, 6, 1));
        assert_eq!(&*location.source, "ß·é: x");
    }

    #[test]
    fn a_line_is_shown_without_its_secrets() {
        for (line, shown) in [
            ("auth: {user: u, password: p4ss, x: 1}", "auth: {user: u, password: ****, x: 1}"),
            ("  password: my, long } pass", "  password: ***************"),
            (r#"{"token":"t0ken","more":"x"}"#, r#"{"token":"*****","more":"x"}"#),
            ("{passwrd: p4ss}", "{passwrd: ****}"),
            ("token: 'a b'  # why", "token: '***'  # why"),
            ("password: '${NATS_PASSWORD}'", "password: '${NATS_PASSWORD}'"),
            ("[nats://u:p@a:1, 'tls://täken@b']", "[nats://***@a:1, 'tls://*****@b']"),
            ("servers: u:p@a", "servers: ***@a"),
            ("servers: [nats://a:1]", "servers: [nats://a:1]"),
            ("password:", "password:"),
            // A word that only begins alike.
            ("passive_health: {ejection: 1s}", "passive_health: {ejection: 1s}"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }

    #[test]
    fn places_of_one_line_are_found_in_any_order() {
        let text = "a: ß, b: x\nc: y\n";
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", text.to_owned(), PathBuf::new());
        for (needle, found) in [("x", (1, 10)), ("a", (1, 1)), ("b", (1, 7)), ("y", (2, 4)), ("x", (1, 10))] {
            let start = text.find(needle).expect("the needle is in the text");
            let location = sources.location(Place { file, start, end: start + 1 });
            assert_eq!((location.line, location.column, location.text()), (found.0, found.1, needle));
        }
        let end = sources.location(Place { file, start: text.len(), end: text.len() });
        assert_eq!((end.line, end.column, &*end.source), (3, 1, ""));
    }

    #[test]
    fn a_place_over_several_lines_is_shown_to_the_end_of_its_first() {
        let location = location_of("a:\r\n  b: 1\r\n  c: 2\r\n", "b: 1\r\n  c: 2");
        assert_eq!((location.line, location.column, location.width), (2, 3, 4));
        assert_eq!(&*location.source, "  b: 1");
    }
}
