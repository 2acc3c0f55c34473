//! The configuration, checked without running it: for `nylon check`, `nylon schema` and whoever embeds Nylon.

use std::path::PathBuf;

use nylon_config::Plan;
use nylon_config::plan::{Broker, OnLoadError, PluginKind};
use nylon_gateway::plugin::native::{Library, two_go_libraries};
use pyo3::prelude::*;

/// One thing that is wrong with a configuration, or doubtful.
#[pyclass(frozen, get_all, module = "nylon._core")]
#[derive(Clone)]
pub(crate) struct Diagnostic {
    file: String,
    line: usize,
    column: usize,
    text: String,
    reason: String,
    suggestion: Option<String>,
    shown: String,
}

#[pymethods]
impl Diagnostic {
    fn __str__(&self) -> &str {
        &self.shown
    }

    fn __repr__(&self) -> String {
        format!("<Diagnostic {}:{}:{}: {}>", self.file, self.line, self.column, self.reason)
    }
}

impl From<&nylon_config::Diagnostic> for Diagnostic {
    fn from(found: &nylon_config::Diagnostic) -> Diagnostic {
        Diagnostic {
            file: found.location.file.to_string(),
            line: found.location.line,
            column: found.location.column,
            text: found.text().to_owned(),
            reason: found.reason.clone(),
            suggestion: found.suggestion.clone(),
            shown: found.to_string(),
        }
    }
}

/// A message broker that a configuration names.
#[pyclass(frozen, get_all, module = "nylon._core")]
#[derive(Clone)]
pub(crate) struct BrokerServers {
    name: String,
    servers: Vec<String>,
    place: String,
}

/// What is wrong with a configuration, what is doubtful, and the brokers it needs.
#[pyclass(frozen, get_all, module = "nylon._core")]
pub(crate) struct ConfigCheck {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    brokers: Vec<BrokerServers>,
}

/// Reads and validates the configuration in the file at `path`; nothing is started, no plugin is loaded. Of native
/// plugins the files are read.
#[pyfunction]
pub(crate) fn check_config(py: Python<'_>, path: PathBuf) -> ConfigCheck {
    let loaded = py.detach(|| nylon_config::load(&path, &|name| std::env::var(name).ok()));
    match loaded {
        Ok(mut loaded) => {
            let mut errors = Vec::new();
            py.detach(|| check_libraries(&loaded.plan, &mut errors, &mut loaded.warnings));
            ConfigCheck {
                errors: errors.iter().map(Diagnostic::from).collect(),
                warnings: loaded.warnings.iter().map(Diagnostic::from).collect(),
                brokers: loaded.plan.messaging.iter().filter_map(servers).collect(),
            }
        }
        Err(found) => ConfigCheck {
            errors: found.errors.iter().map(Diagnostic::from).collect(),
            warnings: found.warnings.iter().map(Diagnostic::from).collect(),
            brokers: Vec::new(),
        },
    }
}

/// What the files of native plugins tell without any code of theirs being run.
fn check_libraries(
    plan: &Plan,
    errors: &mut Vec<nylon_config::Diagnostic>,
    warnings: &mut Vec<nylon_config::Diagnostic>,
) {
    let mut go: Option<&str> = None;
    for plugin in &plan.plugins {
        let PluginKind::Native { file, .. } = &plugin.kind else { continue };
        match Library::check(file) {
            Ok(checked) if checked.is_go && plugin.isolation.is_none() => match go {
                Some(other) => {
                    warnings.push(plugin.location.diagnostic(two_go_libraries(&plugin.name, other)))
                }
                None => go = Some(&plugin.name),
            },
            Ok(_) => {}
            Err(error) => {
                let found = plugin.location.diagnostic(format!("plugin `{}`: {error}", plugin.name));
                match plugin.on_load_error {
                    OnLoadError::Fail => errors.push(found),
                    // That the file is missing was a warning before.
                    OnLoadError::Isolate if file.exists() => warnings.push(found),
                    OnLoadError::Isolate => {}
                }
            }
        }
    }
}

fn servers(messaging: &nylon_config::plan::Messaging) -> Option<BrokerServers> {
    match &messaging.broker {
        Broker::Servers(servers) => Some(BrokerServers {
            name: messaging.name.clone(),
            servers: servers.clone(),
            place: messaging.location.to_string(),
        }),
        Broker::Embedded => None,
    }
}

/// The control socket that the configuration in a file names, be the rest of it right or wrong.
#[pyfunction]
pub(crate) fn control_socket(py: Python<'_>, path: PathBuf) -> Option<PathBuf> {
    py.detach(|| nylon_config::control_socket(&path, &|name| std::env::var(name).ok()))
}

/// The configuration's JSON Schema (draft 2020-12), as a JSON text.
#[pyfunction]
pub(crate) fn json_schema() -> String {
    format!("{:#}", nylon_config::json_schema())
}
