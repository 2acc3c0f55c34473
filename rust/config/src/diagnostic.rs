//! What is wrong with a configuration, where, and what to do about it.
//!
//! Whoever reads one has the file open in an editor: so each names file, line and column, shows the line with the
//! text in question underlined, says why it is wrong, and where it can says what was probably meant. All of a
//! configuration's errors are collected and told at once.

use std::{fmt, sync::Arc};

/// A place in a configuration file, good to be shown to people long after the file was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, as it was named to the gateway.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters of the line are meant; at least 1.
    pub width: usize,
    /// The line itself.
    pub source: Arc<str>,
}

impl Location {
    /// A diagnostic about this place, for what can be known only after the configuration was read: an entry that
    /// the plugin lacks, a syntax error in its file.
    pub fn diagnostic(&self, reason: impl Into<String>) -> Diagnostic {
        Diagnostic { location: self.clone(), reason: reason.into(), suggestion: None }
    }

    /// The diagnostic for a name that is not among `known`, with the nearest of them as suggestion.
    ///
    /// `what` says what the name is for: "entry of plugin `auth`".
    pub fn unknown_name<'a>(
        &self,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Diagnostic {
        let (reason, suggestion) = crate::names::unknown(what, name, known);
        Diagnostic { location: self.clone(), reason, suggestion }
    }

    /// The line, or of a long one (JSON from a program) the part around the text; and what stands under it before
    /// the mark: blanks, and tabs under tabs, so that the mark stands right however wide they are shown.
    fn window(&self) -> (String, String) {
        const WIDTH: usize = 120;
        const BEFORE: usize = 40;
        let length = self.source.chars().count();
        let start = if length <= WIDTH { 0 } else { (self.column - 1).saturating_sub(BEFORE) };
        let mut shown: String = self.source.chars().skip(start).take(WIDTH).collect();
        let mut lead: String = self.source.chars().skip(start).take(self.column - 1 - start).collect();
        lead = lead.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        if start > 0 {
            shown.insert(0, '…');
            lead.insert(0, ' ');
        }
        if start + WIDTH < length {
            shown.push('…');
        }
        (shown, lead)
    }

    /// The text that is meant.
    pub fn text(&self) -> &str {
        let mut ends =
            self.source.char_indices().map(|(at, _)| at).chain([self.source.len()]).skip(self.column - 1);
        let start = ends.next().unwrap_or(self.source.len());
        let end = ends.nth(self.width.saturating_sub(1)).unwrap_or(self.source.len());
        &self.source[start..end]
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One thing that is wrong (or, as a warning, doubtful).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub location: Location,
    /// Why it is wrong.
    pub reason: String,
    /// What to write instead: "did you mean `methods`?".
    pub suggestion: Option<String>,
}

impl Diagnostic {
    /// The same with a suggestion.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Diagnostic {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The text in question.
    pub fn text(&self) -> &str {
        self.location.text()
    }
}

impl fmt::Display for Diagnostic {
    /// ```text
    /// nylon.yaml:3:5: unknown key `methds` in a path
    ///   3 |     methds: [GET]
    ///     |     ^^^^^^
    ///   help: did you mean `methods`?
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { line, width, source, .. } = &self.location;
        write!(f, "{}: {}", self.location, self.reason)?;
        if !source.trim().is_empty() {
            let number = line.to_string();
            let (source, lead) = self.location.window();
            let mark =
                "^".repeat((*width).min(source.chars().count().saturating_sub(lead.chars().count())).max(1));
            write!(f, "\n  {number} | {source}\n  {:pad$} | {lead}{mark}", "", pad = number.len())?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n  help: {suggestion}")?;
        }
        Ok(())
    }
}

/// All that is wrong with a configuration, in the order of its files and lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// What is wrong.
    pub errors: Vec<Diagnostic>,
    /// What is doubtful besides.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(column: usize, width: usize, source: &str) -> Location {
        Location { file: "nylon.yaml".into(), line: 12, column, width, source: source.into() }
    }

    #[test]
    fn a_diagnostic_shows_the_line_the_mark_and_the_help() {
        let shown = location(3, 6, "  methds: [GET]")
            .diagnostic("unknown key `methds`")
            .suggest("did you mean `methods`?");
        assert_eq!(
            shown.to_string(),
            "nylon.yaml:12:3: unknown key `methds`\n  12 |   methds: [GET]\n     |   ^^^^^^\n  help: did you mean `methods`?"
        );
        assert_eq!(shown.text(), "methds");
    }

    #[test]
    fn of_a_long_line_only_the_part_around_the_mark_is_shown() {
        let line = format!("{}X{}", "a".repeat(5_000), "b".repeat(5_000));
        let shown = location(5_001, 1, &line).diagnostic("bad").to_string();
        let mut lines = shown.lines().skip(1);
        let (text, mark) = (lines.next().expect("the line"), lines.next().expect("the mark"));
        assert_eq!(text.chars().position(|c| c == 'X'), mark.chars().position(|c| c == '^'));
        assert!(text.chars().count() < 140);
    }

    #[test]
    fn text_past_the_end_of_the_line_is_empty() {
        assert_eq!(location(9, 3, "short").text(), "");
        assert_eq!(location(3, 30, "ß·é").text(), "é");
    }

    #[test]
    fn an_unknown_entry_found_at_start_gets_the_nearest_name() {
        let found = location(3, 4, "  jwt2").unknown_name("entry of plugin `auth`", "jwt2", ["jwt", "basic"]);
        assert_eq!(found.reason, "unknown entry of plugin `auth`: `jwt2`");
        assert_eq!(found.suggestion.as_deref(), Some("did you mean `jwt`?"));
    }
}
