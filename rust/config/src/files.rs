//! The files of a configuration, merged into one tree.
//!
//! A runtime file may name a directory; its files are merged in the order of their names: lists are appended, mappings
//! united. A name that stands twice is an error (found where names are collected), and so is a setting that two
//! files give different values: which one won would depend on file names.

use std::path::{Path, PathBuf};

use crate::{
    kinds::EnvText,
    read::Read,
    report::Report,
    source::Place,
    tree::{self, Node, Tree},
};

/// A merged configuration and the files it came from.
pub(crate) struct Merged {
    pub(crate) root: Node,
    pub(crate) files: Vec<PathBuf>,
    /// Whether every file could be read: if not, names may seem to dangle that do not.
    pub(crate) complete: bool,
}

/// Reads the file at `path`, and its `config_dir`.
pub(crate) fn load(path: &Path, report: &mut Report<'_>) -> Option<Merged> {
    let (file, ok) = read_file(path, report);
    if !ok {
        return None;
    }
    let mut merged = parse(file, report)?;
    merged.files.insert(0, path.to_owned());
    Some(merged)
}

/// Reads file number `file`, which is already there, and its `config_dir`.
pub(crate) fn parse(file: u32, report: &mut Report<'_>) -> Option<Merged> {
    let root = tree::parse(file, report)?;
    let mut merged = Merged { root, files: Vec::new(), complete: true };
    let Some(node) = entry(&merged.root, "config_dir").filter(|node| node.value != Tree::Null).cloned()
    else {
        return Some(merged);
    };
    // Whatever is wrong with the value itself is reported when the root is read.
    let quiet = &mut Report::new(report.env);
    quiet.sources.add("", String::new(), PathBuf::new());
    let Some(EnvText(dir)) = EnvText::read(&Node { value: node.value, place: Place::default() }, quiet)
    else {
        merged.complete = false;
        return Some(merged);
    };
    match directory(&dir.value, file, node.place, report) {
        Some(files) => {
            for path in files {
                merge_file(&path, &mut merged, report);
                merged.files.push(path);
            }
        }
        None => merged.complete = false,
    }
    Some(merged)
}

fn merge_file(path: &Path, merged: &mut Merged, report: &mut Report<'_>) {
    let (file, ok) = read_file(path, report);
    let Some(node) = ok.then(|| tree::parse(file, report)).flatten() else {
        merged.complete = false;
        return;
    };
    if let Some(inner) = entry(&node, "config_dir") {
        report.error(inner.place, "a file of a `config_dir` cannot name another one");
    }
    merge(&mut merged.root, node, report);
}

pub(crate) fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Tree::Map(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
}

/// Takes the file in; one that cannot be read is reported, and stands there empty so that it has a place.
fn read_file(path: &Path, report: &mut Report<'_>) -> (u32, bool) {
    let name = path.display().to_string();
    let base_dir = path.parent().unwrap_or(Path::new("")).to_owned();
    let read = std::fs::read(path).map_err(|error| format!("cannot read the file: {error}"));
    let text = read.and_then(|bytes| {
        String::from_utf8(bytes).map_err(|error| {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
            format!("the file is not UTF-8 text, from line {} on", line + 1)
        })
    });
    match text {
        Ok(text) => (report.sources.add(&name, text, base_dir), true),
        Err(reason) => {
            let file = report.sources.add(&name, String::new(), base_dir);
            report.error(Place { file, start: 0, end: 0 }, reason);
            (file, false)
        }
    }
}

/// The `*.yaml` and `*.yml` files of `dir`, in the order of their names.
fn directory(dir: &str, file: u32, place: Place, report: &mut Report<'_>) -> Option<Vec<PathBuf>> {
    let beside: PathBuf = report.sources.base_dir(file).join(dir).components().collect();
    let found = [beside.clone(), PathBuf::from(dir)].into_iter().find(|path| path.is_dir());
    let Some(path) = found else {
        report.error(place, format!("no such directory: `{}`", beside.display()));
        return None;
    };
    let entries = match std::fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => {
            report.error(place, format!("cannot read the directory `{}`: {error}", path.display()));
            return None;
        }
    };
    let yaml = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let extension = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        extension && !hidden && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(yaml).collect();
    files.sort();
    if files.is_empty() {
        report.warn(place, format!("no `*.yaml` or `*.yml` file in `{}`", path.display()));
    }
    Some(files)
}

/// Puts `from` behind `into`.
fn merge(into: &mut Node, from: Node, report: &mut Report<'_>) {
    match (&mut into.value, from.value) {
        (_, Tree::Null) => {}
        (Tree::Map(entries), Tree::Map(more)) => {
            for (key, value) in more {
                let Some((first, known)) = entries.iter_mut().find(|(known, _)| known.value == key.value)
                else {
                    entries.push((key, value));
                    continue;
                };
                let first = first.place;
                match (&mut known.value, value.value) {
                    (Tree::List(items), Tree::List(more)) => items.extend(more),
                    (Tree::Map(items), Tree::Map(more)) => unite(items, more, report),
                    (known, Tree::Null) if *known != Tree::Null => {}
                    (known @ Tree::Null, more) => *known = more,
                    (known, more) if *known == more => {}
                    _ => differs(&key.value, key.place, first, report),
                }
            }
        }
        (known @ Tree::Null, more) => {
            *known = more;
            into.place = from.place;
        }
        (_, more) => {
            // One of the two is no mapping. The reader says so of the first; say it of the second here.
            if !matches!(more, Tree::Map(_)) {
                report.error(from.place, format!("expected a mapping, found {}", more.kind()));
            }
        }
    }
}

/// Unites one mapping of two files (`limits`, `middleware_groups`): a key stands in one of them, or is equal.
fn unite(
    items: &mut Vec<(crate::source::Spanned<String>, Node)>,
    more: Vec<(crate::source::Spanned<String>, Node)>,
    report: &mut Report<'_>,
) {
    for (key, value) in more {
        match items.iter().find(|(known, _)| known.value == key.value) {
            None => items.push((key, value)),
            Some((first, known)) => {
                let scalar = !matches!(known.value, Tree::List(_) | Tree::Map(_));
                if !(scalar && known.value == value.value) {
                    differs(&key.value, key.place, first.place, report);
                }
            }
        }
    }
}

fn differs(key: &str, place: Place, first: Place, report: &mut Report<'_>) {
    let first = report.at(first);
    report.error(place, format!("`{key}` is already set at {first}"));
}
