//! Names that are defined once and looked up by others.

use std::collections::HashMap;

use crate::{kinds::Text, report::Report, source::Place};

/// The names of one kind of thing, with their index in the list that defines them.
pub(super) struct Directory {
    what: &'static str,
    /// In the order in which they are defined.
    names: Vec<String>,
    known: HashMap<String, (usize, Place)>,
}

impl Directory {
    /// Takes the names of `items`; a name that stands twice is reported with both places.
    pub(super) fn of<T>(
        what: &'static str,
        items: &[T],
        name: impl Fn(&T) -> Option<&Text>,
        report: &mut Report<'_>,
    ) -> Directory {
        let mut directory = Directory { what, names: Vec::new(), known: HashMap::new() };
        for (index, item) in items.iter().enumerate() {
            let Some(name) = name(item) else { continue };
            match directory.known.get(&name.value) {
                Some((_, first)) => {
                    let reason =
                        format!("the {what} `{}` is already defined at {}", name.value, report.at(*first));
                    report.error_help(name.place, reason, "give one of them another name");
                }
                None => {
                    directory.names.push(name.value.clone());
                    directory.known.insert(name.value.clone(), (index, name.place));
                }
            }
        }
        directory
    }

    /// The index of `name`. `None`: there is no such name, which is reported.
    pub(super) fn find(&self, name: &Text, report: &mut Report<'_>) -> Option<usize> {
        let found = self.index(&name.value);
        if found.is_none() {
            report.unknown(name.place, self.what, &name.value, self.names());
        }
        found
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.known.get(name).map(|(index, _)| *index)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}
