//! What a host is made from, so that a reload can tell whether it would be another one.

use nylon_config::plan::{CallbackMemory, Execution, Isolation, Messaging, PythonSource, Workers};
use nylon_gateway::plugin::remote::Connection;
use pyo3::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a host is made from. Two equal ones would give two hosts that nobody could tell apart.
pub(super) enum Recipe {
    Python {
        source: PythonSource,
        execution: Execution,
        threads: usize,
        config: serde_json::Value,
        /// What the file holds; `None` where it cannot be read.
        code: Option<u64>,
        /// The plugin, where it was given as an object.
        given: Option<Py<PyAny>>,
    },
    /// In processes of its own.
    Isolated {
        isolation: Isolation,
        /// What they are told to run, its code included.
        told: serde_json::Value,
    },
    Remote {
        /// With its servers resolved.
        messaging: Box<Messaging>,
        workers: Workers,
        connection: Arc<Connection>,
    },
    Native {
        file: PathBuf,
        callback_memory: CallbackMemory,
        config: serde_json::Value,
        /// What the file holds; `None` where it cannot be read.
        code: Option<u64>,
    },
    /// The plugin could not be loaded, so that the next one is tried.
    Unloaded,
}

impl Recipe {
    /// Whether nobody could tell the two apart.
    pub(super) fn is_same_as(&self, other: &Recipe) -> bool {
        match (self, other) {
            (
                Recipe::Python { source, execution, threads, config, code, given },
                Recipe::Python {
                    source: its_source,
                    execution: its_execution,
                    threads: its_threads,
                    config: its_config,
                    code: its_code,
                    given: its_given,
                },
            ) => {
                let one_object = match (given, its_given) {
                    (Some(one), Some(other)) => one.is(other),
                    (None, None) => true,
                    _ => false,
                };
                one_object
                    && (source, execution, threads, config, code)
                        == (its_source, its_execution, its_threads, its_config, its_code)
            }
            (
                Recipe::Remote { messaging, workers, .. },
                Recipe::Remote { messaging: its, workers: its_workers, .. },
            ) => messaging.is_same_connection(its) && workers == its_workers,
            (
                Recipe::Native { file, callback_memory, config, code },
                Recipe::Native {
                    file: its_file,
                    callback_memory: its_callback_memory,
                    config: its_config,
                    code: its_code,
                },
            ) => {
                (file, callback_memory, config, code) == (its_file, its_callback_memory, its_config, its_code)
            }
            (
                Recipe::Isolated { isolation, told },
                Recipe::Isolated { isolation: its_isolation, told: its_told },
            ) => (isolation, told) == (its_isolation, its_told),
            _ => false,
        }
    }
}

/// What tells whether a plugin's code has changed: its file's bytes. What the file imports is a module of the whole
/// process, which a reload does not touch.
pub(super) fn python_code(source: &PythonSource) -> Option<u64> {
    let PythonSource::File { path, .. } = source else { return None };
    code(path)
}

/// The same for a file. `None`: it cannot be read.
pub(super) fn code(path: &Path) -> Option<u64> {
    // Reading a pipe would wait for somebody who writes.
    if !path.is_file() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}
