//! Nylon's configuration: as written, validated, as run.
//!
//! [`load`] reads a file (and the `config_dir` it names), [`parse_str`] a text. Both give a [`Plan`] in which every
//! name is resolved and every default filled in, or all errors at once, each with file, line, column, the text in
//! question, the reason and a suggestion. Nothing that is written is ever silently ignored: what this version cannot
//! do is an error, what has no effect a warning. Apart from the files it reads, the crate is pure.

/// The files of a configuration, merged.
mod files;
/// A YAML text as a tree with places.
mod tree;
/// The typed readers, and the macros that declare sections.
mod read;
/// The plain kinds of values.
mod kinds;
/// The configuration as written.
mod raw;
/// From written to run.
mod validate;
/// The configuration as run.
pub mod plan;
/// The files that prove who somebody is to a broker.
pub mod credentials;
/// Certificates of servers.
pub mod certificates;
/// Users and the hashes of their passwords.
pub mod users;
/// The keys that verify tokens.
pub mod token_keys;
/// The JSON Schema of it all.
mod schema;
/// JSON values as MessagePack.
mod msgpack;
/// Errors and warnings with their place in the files.
pub mod diagnostic;
/// Where the stages put what they find.
mod report;
/// Misspelt names.
mod names;
/// Files and places in them.
mod source;

use std::path::{Path, PathBuf};

pub use diagnostic::{ConfigErrors, Diagnostic, Location};
pub use plan::Plan;
pub use schema::json_schema;

use read::Read;
use report::Report;
use tree::Tree;

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What to run.
    pub plan: Plan,
    /// What is doubtful or has no effect, in the order of files and lines.
    pub warnings: Vec<Diagnostic>,
    /// The files it came from, the runtime file first: what a watcher watches.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration in the file at `path`, with the files of its `config_dir`.
///
/// `env` looks an environment variable up.
///
/// # Errors
///
/// All that is wrong with it, at once.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ConfigErrors> {
    let mut report = Report::new(env);
    let merged = files::load(path, &mut report);
    finish(merged, report)
}

/// Reads the configuration in `text` (YAML or JSON). Errors call it `name`; relative paths start from `base_dir`.
///
/// # Errors
///
/// All that is wrong with it, at once.
pub fn parse_str(
    name: &str,
    text: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigErrors> {
    let mut report = Report::new(env);
    let file = report.sources.add(name, text.to_owned(), base_dir.to_owned());
    let merged = files::parse(file, &mut report);
    finish(merged, report)
}

/// The control socket that the configuration at `path` names, be the rest of it right or wrong: whoever reloads a
/// configuration has to reach the gateway to be told what is wrong. `None` where none is named or no YAML is there.
pub fn control_socket(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let mut report = Report::new(env);
    let merged = files::load(path, &mut report)?;
    let node = files::entry(&merged.root, "control")?;
    let Tree::Text(written) = &node.value else { return None };
    Some(validate::absolute(report.sources.base_dir(node.place.file), written))
}

fn finish(merged: Option<files::Merged>, mut report: Report<'_>) -> Result<Loaded, ConfigErrors> {
    let Some(merged) = merged else { return Err(report.finish()) };
    let root = raw::Root::read(&merged.root, &mut report);
    // With a file missing, names would seem to dangle that are defined in it.
    let root = root.filter(|_| merged.complete);
    let plan = root.and_then(|root| validate::plan(&root, &mut report));
    let found = report.finish();
    match plan {
        Some(plan) if found.errors.is_empty() => {
            Ok(Loaded { plan, warnings: found.warnings, files: merged.files })
        }
        _ => Err(found),
    }
}
