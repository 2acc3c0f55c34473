//! The process of one plugin, as `nylon/isolation.py` runs it: the gateway's orders come in, a host serves them.

use crate::errors::ErrorClass;
use crate::python_host::{PythonHost, Settings};
use crate::text;
use nylon_config::plan::{CallbackMemory, Execution};
use nylon_gateway::plugin::PluginHost;
use nylon_gateway::plugin::native::{Library, NativeHost, NativeSettings};
use nylon_gateway::plugin::process::serve::{Line, Served};
use pyo3::prelude::*;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// This process, which runs one plugin for a gateway.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct PluginProcess {
    line: Mutex<Option<Line>>,
    recipe: Value,
}

/// Takes the socket that this process was given as its standard input, which is empty from then on: what a plugin reads
/// there, and what it starts, must not come upon frames.
fn take_socket() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails where it is something else.
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

#[pymethods]
impl PluginProcess {
    /// Takes this process's standard input, where a gateway says what to run.
    #[staticmethod]
    fn take(py: Python<'_>) -> PyResult<PluginProcess> {
        let taken = py.detach(|| -> io::Result<PluginProcess> {
            let mut line = Line::new(take_socket()?)?;
            let recipe = serde_json::from_slice(&line.recipe()?)?;
            Ok(PluginProcess { line: Mutex::new(Some(line)), recipe })
        });
        taken.map_err(|error| {
            let why = format!("no gateway says what to run ({error}): only a gateway starts such a process");
            ErrorClass::GatewayError.error(py, why)
        })
    }

    /// What to run.
    #[getter]
    fn recipe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        text::from_json(py, self.recipe.to_string().as_bytes())
    }

    /// Says why the plugin cannot run.
    fn refuse(&self, py: Python<'_>, why: String) -> PyResult<()> {
        let line = self.line(py)?;
        py.detach(|| line.refuse(why)).map_err(Into::into)
    }

    /// Initializes `plugin`, says so and serves until the gateway ends; then ends the plugin.
    fn serve(&self, plugin: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = plugin.py();
        let config = text::from_json(py, self.recipe["config"].to_string().as_bytes())?;
        let execution = match self.recipe["inline"].as_bool() {
            Some(true) => Execution::Inline,
            _ => Execution::Thread,
        };
        let settings = Settings { name: self.name(), execution, threads: self.number("threads") };
        let host = PythonHost::start(plugin, &config, settings)?;
        let entries = host.entry_names();
        self.work(py, Arc::new(host), entries)
    }

    /// Loads a native plugin, says so and serves until the gateway ends; then ends the plugin.
    fn serve_library(&self, py: Python<'_>) -> PyResult<()> {
        let native = &self.recipe["native"];
        let config = match &self.recipe["config"] {
            Value::Null => String::new(),
            config => config.to_string(),
        };
        let callback_memory = match native["host_frees"].as_bool() {
            Some(true) => CallbackMemory::Host,
            _ => CallbackMemory::Plugin,
        };
        let settings = NativeSettings { name: self.name(), config, callback_memory };
        let file = Path::new(native["file"].as_str().unwrap_or_default());
        let host = py.detach(|| NativeHost::start(Library::open(file)?, settings));
        let host = host.map_err(|error| ErrorClass::PluginError.error(py, error.to_string()))?;
        let entries = host.announced().unwrap_or_else(|| {
            let named = self.recipe["entries"].as_array().into_iter().flatten();
            named
                .filter_map(|name| name.as_str())
                .filter(|name| host.entry(name).is_ok())
                .map(str::to_owned)
                .collect()
        });
        self.work(py, Arc::new(host), entries)
    }
}

impl PluginProcess {
    fn name(&self) -> String {
        self.recipe["plugin"].as_str().unwrap_or_default().to_owned()
    }

    fn number(&self, key: &str) -> usize {
        self.recipe[key].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or_default()
    }

    fn line(&self, py: Python<'_>) -> PyResult<Line> {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).take();
        line.ok_or_else(|| {
            ErrorClass::GatewayError.error(py, "this process has answered its gateway already")
        })
    }

    fn work(&self, py: Python<'_>, host: Arc<dyn PluginHost>, entries: Vec<String>) -> PyResult<()> {
        let line = self.line(py)?;
        let max_body_bytes = self.number("max_body_bytes");
        let served = Served { host, plugin: self.name(), entries, max_body_bytes };
        py.detach(|| line.serve(served)).map_err(Into::into)
    }
}
