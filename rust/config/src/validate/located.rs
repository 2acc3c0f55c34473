//! Files that a configuration names.

use std::path::PathBuf;

use crate::{report::Report, source::Place};

/// The file that is written at `place` as `path`. `None`: there is none, which is reported.
///
/// Relative paths start from the configuration's file, or where nothing is there, from the working directory.
pub(super) fn find_file(path: &str, place: Place, report: &mut Report<'_>) -> Option<PathBuf> {
    let mut tried = Vec::new();
    for path in [report.sources.base_dir(place.file).join(path), PathBuf::from(path)] {
        let path = std::path::absolute(&path).unwrap_or(path);
        if path.is_file() {
            return Some(path);
        }
        let shown = format!("`{}`", path.display());
        if !tried.contains(&shown) {
            tried.push(shown);
        }
    }
    report.error(place, format!("no such file; looked for {}", tried.join(" and ")));
    None
}
