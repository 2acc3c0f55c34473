//! A gateway as a Python object: the plan, the hosts of its plugins, the data plane.
//!
//! `nylon.Gateway` (Python) is the class that people use; this one does what needs Rust. Whoever calls it sees to it
//! that starts, stops and reloads wait for each other.

/// The hosts of a plan, made or taken over.
mod hosts;
/// What a host is made from.
mod recipe;
/// Plugins in processes of their own.
mod isolated;
/// Libraries, loaded.
mod native;
/// What a reload has replaced.
mod retirement;

use crate::errors::ErrorClass;
use crate::python_host::keep_thread_state;
use hosts::{Hosted, Hosts, Ingredients, end};
use nylon_config::plan::{Broker, Middleware, Plan, ServiceKind};
use nylon_core::Scheme;
use nylon_gateway::server::{Server, StartError, ThreadHook};
use nylon_gateway::tls::CertificateReport;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use retirement::Retirement;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a start waits for plugins that cannot answer yet.
const READY_WAIT: Duration = Duration::from_secs(1);
/// How often it looks.
const READY_STEP: Duration = Duration::from_millis(2);
/// How often a wait for a plugin that loads is interrupted to look for Ctrl-C.
const SLICE: Duration = Duration::from_millis(100);

/// A gateway that may run.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct GatewayCore {
    configured: Mutex<Configured>,
    running: Mutex<Option<Arc<Running>>>,
    /// A stop was asked for: a reload that still waits for its plugins gives up.
    stopping: AtomicBool,
}

/// What a configuration came to.
#[derive(Clone)]
struct Configured {
    plan: Arc<Plan>,
    warnings: Vec<String>,
}

struct Running {
    server: Server,
    /// What the threads were made with.
    started_with: Arc<Plan>,
    generation: Mutex<Generation>,
    retirement: Retirement,
}

/// The plan that is live, and who runs its plugins.
#[derive(Clone)]
struct Generation {
    number: u64,
    hosted: Vec<Arc<Hosted>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each value is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GatewayCore {
    fn running(&self) -> Option<Arc<Running>> {
        locked(&self.running).clone()
    }

    fn configured(&self) -> Configured {
        locked(&self.configured).clone()
    }

    fn new(
        py: Python<'_>,
        loaded: Result<nylon_config::Loaded, nylon_config::ConfigErrors>,
    ) -> PyResult<Self> {
        let loaded = loaded.map_err(|errors| ErrorClass::ConfigError.error(py, errors.to_string()))?;
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        Ok(GatewayCore {
            configured: Mutex::new(Configured { plan: Arc::new(loaded.plan), warnings }),
            running: Mutex::new(None),
            stopping: AtomicBool::new(false),
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
        self.configured().warnings
    }

    /// Where the configuration puts the control socket.
    #[getter]
    fn control(&self) -> Option<PathBuf> {
        self.configured().plan.control.clone()
    }

    /// The names of the brokers that the gateway is to start itself.
    #[getter]
    fn embedded_brokers(&self) -> Vec<String> {
        let plan = self.configured().plan;
        let embedded = plan.messaging.iter().filter(|messaging| messaging.broker == Broker::Embedded);
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
        self.stopping.store(false, Ordering::Relaxed);
        let plan = self.configured().plan;
        let hosts = Ingredients {
            py,
            plan: &plan,
            objects: plugins,
            brokers: &brokers,
            before: &[],
            stopping: &self.stopping,
        }
        .hosts()?;
        for warning in hosts.all.iter().filter_map(|hosted| hosted.warning()) {
            tracing::warn!("{warning}");
        }
        let all = hosts.plugin_hosts();
        py.detach(|| self.wait_until(READY_WAIT, || all.iter().all(|host| host.ready_for(&[]).is_ok())));
        let hook: ThreadHook = Arc::new(keep_thread_state);
        match py.detach(|| Server::start(plan.clone(), all, Some(hook))) {
            Ok(server) => {
                let generation = Mutex::new(Generation { number: 1, hosted: hosts.all });
                let retirement = Retirement::default();
                let running = Running { server, started_with: plan, generation, retirement };
                *locked(&self.running) = Some(Arc::new(running));
                Ok(())
            }
            Err(error) => {
                py.detach(|| end(hosts.all.iter()));
                Err(start_error(py, &error))
            }
        }
    }

    /// Puts the plan of `next` into the place of the running one. New plugins have `wait` seconds to be ready; if one
    /// is not, the running plan stays, unless `force` says otherwise.
    ///
    /// Returns the generation's number, the names of the plugins that were started, that were kept and that are
    /// ended, and warnings.
    fn reload(
        &self,
        py: Python<'_>,
        next: &GatewayCore,
        plugins: &Bound<'_, PyDict>,
        brokers: HashMap<String, String>,
        force: bool,
        wait: f64,
    ) -> PyResult<Reloaded> {
        let Some(running) = self.running() else {
            return Err(
                ErrorClass::GatewayError.error(py, "the gateway does not run: there is nothing to reload")
            );
        };
        let before = locked(&running.generation).clone();
        let now = self.configured();
        let next = next.configured();
        let mut warnings = unchangeable(&running.started_with, &next.plan);
        let ingredients = Ingredients {
            py,
            plan: &next.plan,
            objects: plugins,
            brokers: &brokers,
            before: &before.hosted,
            stopping: &self.stopping,
        };
        let hosts = ingredients.hosts()?;
        warnings.extend(hosts.all.iter().filter_map(|hosted| hosted.missing()));
        let started: Vec<Arc<Hosted>> = hosts.new_since(&before.hosted).cloned().collect();
        warnings.extend(started.iter().filter_map(|hosted| hosted.warning()));
        let refused = |error: PyErr| {
            py.detach(|| end(started.iter()));
            error
        };
        let wait = Duration::try_from_secs_f64(wait.max(0.0)).unwrap_or(READY_WAIT);
        let ready = py.detach(|| self.await_ready(&next.plan, &started, wait, force));
        warnings.extend(ready.map_err(|why| refused(ErrorClass::GatewayError.error(py, why)))?);
        let all = hosts.plugin_hosts();
        let replaced = py.detach(|| running.server.switch(next.plan.clone(), all.clone()));
        let replaced = replaced.map_err(|error| refused(start_error(py, &error)))?;
        let number = before.number + 1;
        let ended = Hosts { all: before.hosted };
        let names = |hosted: &mut dyn Iterator<Item = &Arc<Hosted>>| hosted.map(|h| h.name.clone()).collect();
        let reloaded = (
            number,
            names(&mut started.iter()),
            names(&mut hosts.all.iter().filter(|h| !started.iter().any(|s| Arc::ptr_eq(s, h)))),
            names(&mut ended.new_since(&hosts.all)),
            warnings,
        );
        let runtime = &now.plan.runtime;
        let (time, grace) = (runtime.reload_grace_period, runtime.graceful_shutdown_timeout);
        py.detach(|| running.retirement.take(replaced, ended.plugin_hosts(), all, time, grace));
        *locked(&running.generation) = Generation { number, hosted: hosts.all };
        *locked(&self.configured) = next;
        Ok(reloaded)
    }

    /// The addresses listened on, as `(scheme, host, port)`, port 0 resolved; empty while the gateway does not run.
    #[getter]
    fn addresses(&self) -> Vec<(&'static str, String, u16)> {
        let listeners = self.running().map_or_else(Vec::new, |running| running.server.listeners());
        let parts = |(scheme, address): &(Scheme, SocketAddr)| {
            (scheme.name(), address.ip().to_string(), address.port())
        };
        listeners.iter().map(parts).collect()
    }

    /// Makes a reload that waits for its plugins give up, since a stop waits for it.
    fn hurry(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Lets open requests finish within the time that the configuration gives (or `grace` seconds), then ends
    /// the plugins. Does nothing where the gateway does not run.
    #[pyo3(signature = (grace=None))]
    fn stop(&self, py: Python<'_>, grace: Option<f64>) {
        let Some(running) = locked(&self.running).take() else { return };
        let runtime = self.configured().plan.runtime.clone();
        let given = grace.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let requests = given.unwrap_or(runtime.grace_period);
        let until = Instant::now() + requests + given.unwrap_or(runtime.graceful_shutdown_timeout);
        py.detach(|| {
            running.server.stop(requests);
            running.retirement.finish();
            let hosted = locked(&running.generation).hosted.clone();
            for hosted in hosted {
                hosted.host.shutdown(until.saturating_duration_since(Instant::now()));
            }
        });
    }

    /// What runs now, as a JSON text: the generation, the addresses, each plugin with its calls.
    fn status(&self) -> String {
        let Some(running) = self.running() else { return json!({}).to_string() };
        let generation = locked(&running.generation).clone();
        let listeners = running.server.listeners();
        let listeners = listeners.iter().map(|(scheme, address)| format!("{}://{address}", scheme.name()));
        let plugins: Vec<Value> = generation.hosted.iter().map(|hosted| described(hosted)).collect();
        let status = json!({
            "generation": generation.number,
            "retiring": running.retirement.waiting(),
            "listeners": listeners.collect::<Vec<_>>(),
            "services": running.server.services(),
            "plugins": plugins,
            "certificates": running.server.certificates().iter().map(certificate).collect::<Vec<_>>(),
        });
        status.to_string()
    }

    /// Whether each plugin can be expected to answer now: the reasons why not.
    fn not_ready(&self) -> Vec<String> {
        self.running().map_or_else(Vec::new, |running| reasons(&locked(&running.generation).hosted))
    }
}

/// The generation's number; the plugins started, kept and ended; warnings.
type Reloaded = (u64, Vec<String>, Vec<String>, Vec<String>, Vec<String>);

impl GatewayCore {
    /// Waits for the new hosts of a plan. Gives warnings, where it is forced on; an error says why it is refused.
    fn await_ready(
        &self,
        plan: &Plan,
        new: &[Arc<Hosted>],
        wait: Duration,
        force: bool,
    ) -> Result<Vec<String>, String> {
        self.wait_until(wait, || unready(plan, new).is_empty());
        let missing = unready(plan, new);
        if self.stopping.load(Ordering::Relaxed) {
            return Err("the gateway is stopped".to_owned());
        }
        if missing.is_empty() || force {
            let forced = |why| format!("switched without waiting any longer: {why}");
            return Ok(missing.into_iter().map(forced).collect());
        }
        let (wait, missing) = (wait.as_secs_f64(), missing.join("\n  "));
        Err(format!(
            "not ready after {wait} s, so the running plan stays:\n  {missing}\n  (start what is missing and reload \
             again, or force the reload)"
        ))
    }

    /// Gives brokers and workers that are there the moment they need to answer, so that the first request after a
    /// start or a reload is served like any other.
    fn wait_until(&self, time: Duration, is_so: impl Fn() -> bool) {
        let until = Instant::now() + time;
        while !is_so() && Instant::now() < until && !self.stopping.load(Ordering::Relaxed) {
            std::thread::sleep(READY_STEP);
        }
    }
}

/// A certificate; times are seconds since 1970.
fn certificate(report: &CertificateReport) -> Value {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let obtaining = report.obtaining.as_ref().map(|obtaining| {
        json!({
            "directory_url": obtaining.directory_url,
            "due": seconds(obtaining.due),
            "problem": obtaining.problem,
        })
    });
    json!({ "domains": report.domains, "not_after": report.not_after, "acme": obtaining })
}

fn described(hosted: &Hosted) -> Value {
    let ready = hosted.host.ready();
    let mut described = json!({
        "name": hosted.name,
        "kind": hosted.host.kind(),
        "ready": ready.is_ok(),
        "reason": ready.err(),
    });
    if let (Some(all), Value::Object(figures)) = (described.as_object_mut(), hosted.host.figures()) {
        all.extend(figures);
    }
    described
}

fn reasons(hosted: &[Arc<Hosted>]) -> Vec<String> {
    let reason =
        |hosted: &Arc<Hosted>| Some(format!("plugin `{}`: {}", hosted.name, hosted.host.ready().err()?));
    hosted.iter().filter_map(reason).collect()
}

/// The entries of a plugin that the plan names.
fn entries_named<'p>(plan: &'p Plan, plugin: &str) -> BTreeSet<&'p str> {
    let named = plan.routes.iter().flat_map(|route| &route.paths).flat_map(|path| {
        let service = match &plan.services[path.service.0].kind {
            ServiceKind::Plugin(middleware) => Some(&**middleware),
            ServiceKind::Http(_) | ServiceKind::Static(_) => None,
        };
        path.middleware.iter().chain(service)
    });
    let entries = named.filter_map(Middleware::entry);
    entries.filter(|(index, _)| plan.plugins[index.0].name == plugin).map(|(_, entry)| entry).collect()
}

/// Why the plan's new hosts cannot run the entries that it names.
fn unready(plan: &Plan, new: &[Arc<Hosted>]) -> Vec<String> {
    let reason = |hosted: &Arc<Hosted>| {
        let entries: Vec<&str> = entries_named(plan, &hosted.name).into_iter().collect();
        Some(format!("plugin `{}`: {}", hosted.name, hosted.host.ready_for(&entries).err()?))
    };
    new.iter().filter_map(reason).collect()
}

/// What a reload cannot change: each setting that differs, as a warning.
fn unchangeable(now: &Plan, next: &Plan) -> Vec<String> {
    let settings = [
        ("runtime.threads", now.runtime.threads == next.runtime.threads),
        (
            "runtime.upstream_keepalive_pool_size",
            now.runtime.upstream_keepalive_pool_size == next.runtime.upstream_keepalive_pool_size,
        ),
        ("limits.max_connections", now.limits.max_connections == next.limits.max_connections),
    ];
    let changed = settings.into_iter().filter(|(_, same)| !same);
    changed.map(|(name, _)| format!("`{name}` is another now, but takes effect only at a start")).collect()
}

fn start_error(py: Python<'_>, error: &StartError) -> PyErr {
    let class = match error {
        StartError::Plan(_) | StartError::Certificates(_) => ErrorClass::ConfigError,
        StartError::Listen { .. }
        | StartError::Acme(_)
        | StartError::Tls(_)
        | StartError::Thread(_)
        | StartError::Names(_) => ErrorClass::GatewayError,
    };
    class.error(py, error.to_string())
}
