//! Files that a configuration names.

use std::path::{Path, PathBuf};

use crate::{credentials, kinds::Text, report::Report, source::Place};

/// The file that is written at `place` as `path`. `None`: there is none, which is reported.
///
/// Relative paths start from the configuration's file, or where nothing is there, from the working directory.
pub(super) fn find_file(path: &str, place: Place, report: &mut Report<'_>) -> Option<PathBuf> {
    let [beside, here] = candidates(path, place, report);
    let found = [&beside, &here].into_iter().find(|path| path.is_file()).cloned();
    if found.is_none() {
        report.error(place, missing(&beside, &here));
    }
    found
}

/// The same for a directory. It may be a link, which is not resolved: it may lead elsewhere later on.
pub(super) fn find_directory(path: &str, place: Place, report: &mut Report<'_>) -> Option<PathBuf> {
    let [beside, here] = candidates(path, place, report);
    let found = [&beside, &here].into_iter().find(|path| path.is_dir()).cloned();
    if found.is_none() {
        report.error(place, missing(&beside, &here).replace("no such file", "no such directory"));
    }
    found
}

/// The same for a file that may be missing for now: a warning says so, and the place where it is expected comes back.
pub(super) fn find_file_later(path: &str, place: Place, report: &mut Report<'_>) -> PathBuf {
    let [beside, here] = candidates(path, place, report);
    let found = [&beside, &here].into_iter().find(|path| path.is_file()).cloned();
    found.unwrap_or_else(|| {
        report.warn(place, missing(&beside, &here));
        beside
    })
}

/// A file from which `read` gets what it wants.
pub(super) fn readable<T>(
    text: &Text,
    read: impl FnOnce(&Path) -> Result<T, String>,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let path = find_file(&text.value, text.place, report)?;
    if let Err(why) = read(&path) {
        report.error(text.place, format!("the file `{}` {why}", path.display()));
        return None;
    }
    Some(path)
}

/// The same for a file that nobody else should read.
pub(super) fn secret_file<T>(
    text: &Text,
    read: impl FnOnce(&Path) -> Result<T, String>,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let path = readable(text, read, report)?;
    warn_if_readable_by_all(&path, text.place, report);
    Some(path)
}

pub(super) fn warn_if_readable_by_all(path: &Path, place: Place, report: &mut Report<'_>) {
    if credentials::is_readable_by_all(path) {
        let path = path.display();
        report.warn(place, format!("everybody on this machine can read `{path}`: `chmod 600` it"));
    }
}

fn candidates(path: &str, place: Place, report: &Report<'_>) -> [PathBuf; 2] {
    [report.sources.base_dir(place.file).join(path), PathBuf::from(path)]
        .map(|path| std::path::absolute(&path).unwrap_or(path))
}

fn missing(beside: &Path, here: &Path) -> String {
    if beside == here {
        return format!("no such file; looked for `{}`", beside.display());
    }
    format!("no such file; looked for `{}` and `{}`", beside.display(), here.display())
}
