//! Where all stages put what they find, so that everything is told at once.

use crate::{
    diagnostic::{ConfigErrors, Diagnostic},
    names,
    source::{Place, Sources},
};

/// The files, the environment, and what was found in them so far.
pub(crate) struct Report<'e> {
    pub(crate) sources: Sources,
    pub(crate) env: &'e dyn Fn(&str) -> Option<String>,
    errors: Vec<(Place, Diagnostic)>,
    warnings: Vec<(Place, Diagnostic)>,
}

impl<'e> Report<'e> {
    pub(crate) fn new(env: &'e dyn Fn(&str) -> Option<String>) -> Report<'e> {
        Report { sources: Sources::default(), env, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) fn error(&mut self, place: Place, reason: impl Into<String>) {
        self.push_error(place, reason.into(), None);
    }

    pub(crate) fn error_help(&mut self, place: Place, reason: impl Into<String>, help: impl Into<String>) {
        self.push_error(place, reason.into(), Some(help.into()));
    }

    /// A name that should be one of `known`.
    pub(crate) fn unknown<'a>(
        &mut self,
        place: Place,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let (reason, help) = names::unknown(what, name, known);
        self.push_error(place, reason, help);
    }

    /// Something that is understood, but that this version cannot do: it must never be left out silently.
    pub(crate) fn unavailable(&mut self, place: Place, what: &str) {
        self.push_error(place, format!("{what} is not available in this version"), None);
    }

    pub(crate) fn warn(&mut self, place: Place, reason: impl Into<String>) {
        let diagnostic = self.sources.diagnostic(place, reason.into(), None);
        self.warnings.push((place, diagnostic));
    }

    /// `file:line:column` of `place`, to be named in a reason about another place.
    pub(crate) fn at(&self, place: Place) -> String {
        self.sources.location(place).to_string()
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    fn push_error(&mut self, place: Place, reason: String, help: Option<String>) {
        let diagnostic = self.sources.diagnostic(place, reason, help);
        self.errors.push((place, diagnostic));
    }

    /// What was found, in the order of files and lines, each once.
    pub(crate) fn finish(self) -> ConfigErrors {
        ConfigErrors { errors: in_order(self.errors), warnings: in_order(self.warnings) }
    }
}

fn in_order(mut found: Vec<(Place, Diagnostic)>) -> Vec<Diagnostic> {
    found.sort_by_key(|(place, _)| (place.file, place.start));
    found.dedup_by(|a, b| a.1 == b.1);
    found.into_iter().map(|(_, diagnostic)| diagnostic).collect()
}
