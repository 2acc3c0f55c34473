//! A gateway as a Python object: the plan, the hosts of its plugins, the data plane.
//!
//! `nylon.Gateway` (Python) is the class that people use; this one does what needs Rust.

use crate::dispatch::describe;
use crate::errors::ErrorClass;
use crate::python_host::{PythonHost, Settings, keep_thread_state};
use crate::text;
use nylon_config::plan::{Broker, Messaging, Plan, Plugin, PluginKind, PythonSource};
use nylon_gateway::plugin::PluginHost;
use nylon_gateway::plugin::remote::{Connection, RemoteHost};
use nylon_gateway::server::{Server, StartError, ThreadHook};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a start waits for plugins that cannot answer yet.
const READY_WAIT: Duration = Duration::from_secs(1);

/// A gateway that may run.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct GatewayCore {
    plan: Arc<Plan>,
    warnings: Vec<String>,
    running: Mutex<Option<Running>>,
}

struct Running {
    server: Server,
    hosts: Vec<Arc<dyn PluginHost>>,
}

impl GatewayCore {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(
        py: Python<'_>,
        loaded: Result<nylon_config::Loaded, nylon_config::ConfigErrors>,
    ) -> PyResult<Self> {
        let loaded = loaded.map_err(|errors| ErrorClass::ConfigError.error(py, errors.to_string()))?;
        Ok(GatewayCore {
            plan: Arc::new(loaded.plan),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            running: Mutex::new(None),
        })
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[pymethods]
impl GatewayCore {
    /// Reads and validates the configuration in a file.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<GatewayCore> {
        let loaded = py.detach(|| nylon_config::load(&path, &environment));
        GatewayCore::new(py, loaded)
    }

    /// Reads and validates a configuration; errors call it `name`, relative paths start from `directory`.
    #[staticmethod]
    fn from_text(py: Python<'_>, name: &str, text: &str, directory: PathBuf) -> PyResult<GatewayCore> {
        let loaded = py.detach(|| nylon_config::parse_str(name, text, &directory, &environment));
        GatewayCore::new(py, loaded)
    }

    /// What is doubtful in the configuration.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// The names of the brokers that the gateway is to start itself.
    #[getter]
    fn embedded_brokers(&self) -> Vec<String> {
        let embedded = self.plan.messaging.iter().filter(|messaging| messaging.broker == Broker::Embedded);
        embedded.map(|messaging| messaging.name.clone()).collect()
    }

    /// Loads the plugins and starts the data plane. `plugins` holds plugin objects by name, `brokers` the URLs of
    /// the embedded brokers.
    fn start(
        &self,
        py: Python<'_>,
        plugins: &Bound<'_, PyDict>,
        brokers: HashMap<String, String>,
    ) -> PyResult<()> {
        if self.running().is_some() {
            return Err(ErrorClass::GatewayError.error(py, "the gateway runs already"));
        }
        let mut connections = HashMap::new();
        let mut hosts: Vec<Arc<dyn PluginHost>> = Vec::new();
        let started = self
            .plan
            .plugins
            .iter()
            .try_for_each(|plugin| {
                hosts.push(self.host(py, plugin, plugins, &brokers, &mut connections)?);
                Ok(())
            })
            .and_then(|()| {
                py.detach(|| wait_until_ready(&hosts));
                let hook: ThreadHook = Arc::new(keep_thread_state);
                let (plan, hosts) = (self.plan.clone(), hosts.clone());
                py.detach(|| Server::start(plan, hosts, Some(hook))).map_err(|error| start_error(py, &error))
            });
        match started {
            Ok(server) => {
                *self.running() = Some(Running { server, hosts });
                Ok(())
            }
            Err(error) => {
                py.detach(|| hosts.iter().for_each(|host| host.shutdown(Duration::from_secs(1))));
                Err(error)
            }
        }
    }

    /// The addresses listened on, as `(host, port)`, port 0 resolved; empty while the gateway does not run.
    #[getter]
    fn addresses(&self) -> Vec<(String, u16)> {
        let address = |address: &std::net::SocketAddr| (address.ip().to_string(), address.port());
        self.running().as_ref().map_or_else(Vec::new, |r| r.server.addresses().iter().map(address).collect())
    }

    /// Lets open requests finish within the time that the configuration gives (or `grace` seconds), then ends
    /// the plugins. Does nothing where the gateway does not run.
    #[pyo3(signature = (grace=None))]
    fn stop(&self, py: Python<'_>, grace: Option<f64>) {
        let Some(Running { server, hosts }) = self.running().take() else { return };
        let runtime = &self.plan.runtime;
        let given = grace.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let requests = given.unwrap_or(runtime.grace_period);
        let until = Instant::now() + requests + given.unwrap_or(runtime.graceful_shutdown_timeout);
        py.detach(|| {
            server.stop(requests);
            drop(server);
            for host in hosts {
                host.shutdown(until.saturating_duration_since(Instant::now()));
            }
        });
    }

    /// Whether each plugin can be expected to answer now: the reasons why not.
    fn not_ready(&self) -> Vec<String> {
        let hosts = self.running().as_ref().map_or_else(Vec::new, |running| running.hosts.clone());
        let named = self.plan.plugins.iter().zip(hosts);
        named
            .filter_map(|(plugin, host)| Some(format!("plugin `{}`: {}", plugin.name, host.ready().err()?)))
            .collect()
    }
}

impl GatewayCore {
    fn host(
        &self,
        py: Python<'_>,
        plugin: &Plugin,
        objects: &Bound<'_, PyDict>,
        brokers: &HashMap<String, String>,
        connections: &mut HashMap<usize, Arc<Connection>>,
    ) -> PyResult<Arc<dyn PluginHost>> {
        match &plugin.kind {
            PluginKind::Python { source, execution, threads } => {
                let settings =
                    Settings { name: plugin.name.clone(), execution: *execution, threads: *threads };
                let loaded = (|| {
                    let object = match objects.get_item(&plugin.name)? {
                        Some(object) => object,
                        None => load(py, source)?,
                    };
                    let config = text::from_json(py, plugin.config.to_string().as_bytes())?;
                    PythonHost::start(&object, &config, settings)
                })();
                match loaded {
                    Ok(host) => Ok(Arc::new(host)),
                    Err(error) => Err(blame(py, plugin, error)),
                }
            }
            PluginKind::Messaging { messaging, group } => {
                let settings = &self.plan.messaging[*messaging];
                let connection = match connections.get(messaging) {
                    Some(connection) => connection.clone(),
                    None => {
                        let connection = connect(py, settings, brokers)?;
                        connections.insert(*messaging, connection.clone());
                        connection
                    }
                };
                let host = RemoteHost::new(connection, &settings.subject_prefix, &plugin.name, group);
                let host = host.map_err(|error| {
                    let found = plugin.location.diagnostic(format!("plugin `{}`: {error}", plugin.name));
                    ErrorClass::ConfigError.error(py, found.to_string())
                })?;
                Ok(Arc::new(host))
            }
        }
    }
}

/// Gives brokers and workers that are there the moment they need to answer, so that the first request after a start
/// is served like any other. Those that are not there do not keep the gateway from starting.
fn wait_until_ready(hosts: &[Arc<dyn PluginHost>]) {
    let until = Instant::now() + READY_WAIT;
    while hosts.iter().any(|host| host.ready().is_err()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn load<'py>(py: Python<'py>, source: &PythonSource) -> PyResult<Bound<'py, PyAny>> {
    let loading = py.import("nylon.loading")?;
    match source {
        PythonSource::File { path, attribute } => {
            loading.call_method1("load_file", (path.display().to_string(), attribute))
        }
        PythonSource::Module { module, attribute } => {
            loading.call_method1("load_module", (module, attribute))
        }
    }
}

/// Adds to a plugin's error where the configuration names it. What is no `Exception` goes on as it is.
fn blame(py: Python<'_>, plugin: &Plugin, error: PyErr) -> PyErr {
    if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
        return error;
    }
    let known = ErrorClass::NylonError.is_of(py, &error);
    let what = if known { error.value(py).to_string() } else { describe(py, &error) };
    let text = format!("{what}\n  (plugin `{}`, configured in {})", plugin.name, plugin.location);
    ErrorClass::PluginError.error(py, text)
}

fn connect(
    py: Python<'_>,
    messaging: &Messaging,
    brokers: &HashMap<String, String>,
) -> PyResult<Arc<Connection>> {
    let servers = match &messaging.broker {
        Broker::Servers(servers) => servers.clone(),
        Broker::Embedded => brokers.get(&messaging.name).cloned().into_iter().collect(),
    };
    let started = py.detach(|| Connection::start(messaging, servers));
    started.map_err(|error| {
        let why = format!("cannot start the connection to broker `{}`: {error}", messaging.name);
        ErrorClass::GatewayError.error(py, why)
    })
}

fn start_error(py: Python<'_>, error: &StartError) -> PyErr {
    let class = match error {
        StartError::Plan(_) => ErrorClass::ConfigError,
        StartError::Listen { .. } | StartError::Thread(_) => ErrorClass::GatewayError,
    };
    class.error(py, error.to_string())
}

/// Sends the data plane's log to stderr, once per process: at `level`, or as `NYLON_LOG` says (`debug`,
/// `nylon_gateway=trace`). False where the process has a subscriber of its own already.
#[pyfunction]
pub(crate) fn start_logging(level: &str) -> bool {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("NYLON_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(coloured);
    log.with_writer(std::io::stderr).try_init().is_ok()
}
