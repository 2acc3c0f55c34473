//! Plugins in processes of their own: what such a process is told to run, and how it is started.
//!
//! A process gets all of it over its socket: nothing of a configuration, which may hold secrets, stands in its
//! arguments, where everybody on the machine could read it. A Python plugin's file travels as it was when the gateway
//! loaded it, so that a process that is started again runs what the others run.

use super::SLICE;
use super::recipe::code;
use crate::errors::ErrorClass;
use nylon_config::plan::{CallbackMemory, Execution, Isolation, Plan, Plugin, PythonSource};
use nylon_gateway::plugin::process::{ProcessHost, ProcessSettings, Unstarted};
use pyo3::prelude::*;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a start may take before it is said that it does.
const LONG: Duration = Duration::from_secs(10);

/// What the processes of a Python plugin run.
pub(super) fn python_recipe(
    plan: &Plan,
    plugin: &Plugin,
    source: &PythonSource,
    execution: Execution,
    threads: usize,
) -> Value {
    let source = match source {
        PythonSource::File { path, attribute } => {
            // A byte for each character: a file may be in any encoding. One that cannot be read is an error there.
            let text = std::fs::read(path).ok();
            let text = text.map(|text| text.into_iter().map(char::from).collect::<String>());
            json!({ "file": absolute(path), "attribute": attribute, "text": text })
        }
        PythonSource::Module { module, attribute } => json!({ "module": module, "attribute": attribute }),
    };
    json!({
        "plugin": plugin.name,
        "python": source,
        "inline": execution == Execution::Inline,
        "threads": threads,
        "config": plugin.config,
        "max_body_bytes": plan.limits.max_body_bytes,
    })
}

/// What the processes of a native plugin run.
pub(super) fn native_recipe(plan: &Plan, plugin: &Plugin, file: &Path, memory: CallbackMemory) -> Value {
    json!({
        "plugin": plugin.name,
        "native": { "file": absolute(file), "host_frees": memory == CallbackMemory::Host, "code": code(file) },
        "config": plugin.config,
        "max_body_bytes": plan.limits.max_body_bytes,
    })
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Starts the processes and waits until each runs the plugin, for as long as that takes.
///
/// # Errors
/// What the plugin's loading or its `initialize` came to there, or how a process died of it, as `blamed` has it.
pub(super) fn start(
    py: Python<'_>,
    plugin: &Plugin,
    kind: &'static str,
    isolation: Isolation,
    mut recipe: Value,
    stopping: &AtomicBool,
    blamed: impl Fn(String) -> PyErr,
) -> PyResult<ProcessHost> {
    let (program, path) = interpreter(py)?;
    recipe["path"] = json!(path);
    let settings = ProcessSettings {
        name: plugin.name.clone(),
        kind,
        processes: isolation.processes,
        program,
        recipe: Box::new(move |number| {
            let mut recipe = recipe.clone();
            recipe["number"] = json!(number + 1);
            recipe.to_string().into_bytes()
        }),
    };
    let cannot = |error| blamed(format!("its processes cannot be started: {error}"));
    let mut starting = py.detach(|| ProcessHost::start(settings)).map_err(cannot)?;
    let begun = Instant::now();
    let mut told = false;
    let started = loop {
        match py.detach(|| starting.wait(SLICE)) {
            Ok(true) => return Ok(starting.into_host()),
            Ok(false) => {}
            Err(why) => break blamed(describe(why)),
        }
        if let Err(interrupt) = py.check_signals() {
            break interrupt;
        }
        if stopping.load(Relaxed) {
            break ErrorClass::GatewayError.error(py, "the gateway is stopped");
        }
        if begun.elapsed() > LONG && !std::mem::replace(&mut told, true) {
            tracing::warn!(plugin = plugin.name, "processes of the plugin still start after {LONG:?}");
        }
    };
    py.detach(|| drop(starting));
    Err(started)
}

/// Says of a process that ended what it was.
fn describe(why: Unstarted) -> String {
    match why {
        Unstarted::Refused(why) => why,
        Unstarted::Failed(why) => format!("its process {why}"),
    }
}

/// The interpreter that a process runs, what it runs, and where it finds modules: as this one does.
fn interpreter(py: Python<'_>) -> PyResult<(Vec<OsString>, Vec<String>)> {
    const BEGIN: &str = "from nylon.isolation import main; raise SystemExit(main())";
    let sys = py.import("sys")?;
    let executable: Option<OsString> = sys.getattr("executable")?.extract()?;
    let Some(executable) = executable.filter(|executable| !executable.is_empty()) else {
        let why = "`isolation: process` starts processes with sys.executable, which this program does not have: set it \
                   to a Python interpreter that can import nylon";
        return Err(ErrorClass::PluginError.error(py, why));
    };
    // What is no text cannot be imported from either.
    let path: Vec<String> =
        sys.getattr("path")?.try_iter()?.filter_map(|place| place.ok()?.extract().ok()).collect();
    // The path comes first: it says where nylon is, however this program found it.
    let code = format!("import sys; sys.path[:] = {}; {BEGIN}", py_list(py, &path)?);
    Ok((vec![executable, "-c".into(), code.into()], path))
}

fn py_list(py: Python<'_>, path: &[String]) -> PyResult<String> {
    Ok(path.to_vec().into_pyobject(py)?.repr()?.to_string())
}
