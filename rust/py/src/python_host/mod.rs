//! Python plugins in the gateway's process.
//!
//! A `def` handler runs in a pool of the plugin's own threads, an `async def` handler on the plugin's own event
//! loop, and an inline handler on the data-plane thread that has the request. Pool and loop belong to one
//! plugin, so a plugin that blocks takes no other one along, and stopping a plugin stops all that it started.
//! A data-plane thread touches Python for inline handlers only: everything else it hands over without the GIL.

/// One call, from the pipeline's side.
mod call;
/// A response that a handler is still writing.
mod stream;
/// Threads for `def` handlers.
mod pool;
/// The loop for `async def` handlers.
mod event_loop;
/// What the process keeps while Python plugins run: the switch interval, the watchdog.
mod residence;

pub(crate) use residence::keep_thread_state;

use crate::context::{Labels, Lease};
use crate::dispatch::Invocation;
use crate::errors::ErrorClass;
use crate::registry::{Entry, Registry, SessionHandlers, Shape};
use call::{Given, Onward, Waiting, Way};
use event_loop::EventLoop;
pub(crate) use event_loop::LoopQueue;
use nylon_config::plan::Execution;
use nylon_core::{Context, Decision, Failure, FailureKind};
use nylon_gateway::plugin::{
    BodyUse, EntryTraits, Pending, PhaseCall, PluginEntry, PluginHost, UnknownEntry,
};
use pool::Pool;
use pyo3::prelude::*;
use residence::Residence;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a plugin is run.
pub(crate) struct Settings {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Where handlers run that do not say.
    pub(crate) execution: Execution,
    /// Threads of the pool.
    pub(crate) threads: usize,
}

/// Runs the entries of one plugin object.
pub(crate) struct PythonHost {
    name: String,
    entries: Vec<Arc<PythonEntry>>,
    pool: Option<Arc<Pool>>,
    event_loop: Option<Arc<EventLoop>>,
    /// The Python half (`nylon.lifetime.Lifetime`): initialize, shutdown, the loop's thread.
    lifetime: Mutex<Option<Py<PyAny>>>,
    residence: Mutex<Option<Residence>>,
}

/// One entry, and where its handlers run.
struct PythonEntry {
    entry: Arc<Entry>,
    execution: Execution,
    pool: Option<Arc<Pool>>,
    event_loop: Option<Arc<EventLoop>>,
}

impl PythonHost {
    /// Initializes `plugin` with its `config` and starts what its handlers need. May run for as long as the
    /// plugin's `initialize` does.
    pub(crate) fn start(
        plugin: &Bound<'_, PyAny>,
        config: &Bound<'_, PyAny>,
        settings: Settings,
    ) -> PyResult<PythonHost> {
        let py = plugin.py();
        let Settings { name, execution, threads } = settings;
        let registry = registry_of(plugin, &name)?;
        let residence = Residence::enter(py)?;
        let lifetime = py.import("nylon.lifetime")?.getattr("Lifetime")?.call1((plugin, name.as_str()))?;
        let started = lifetime
            .call_method1("initialize", (config,))
            .and_then(|_| start_threads(&lifetime, registry.get(), &name, execution, threads));
        let (entries, pool, event_loop) = match started {
            Ok(started) => started,
            Err(error) => {
                lifetime.call_method1("abandon", ())?;
                return Err(error);
            }
        };
        let entry = |entry| {
            let (pool, event_loop) = (pool.clone(), event_loop.clone());
            Arc::new(PythonEntry { entry, execution, pool, event_loop })
        };
        Ok(PythonHost {
            name,
            entries: entries.into_iter().map(entry).collect(),
            pool,
            event_loop,
            lifetime: Mutex::new(Some(lifetime.unbind())),
            residence: Mutex::new(Some(residence)),
        })
    }
}

impl PythonHost {
    /// The names of its entries.
    pub(crate) fn entry_names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.entry.name().to_owned()).collect()
    }
}

/// Learns what the plugin registers, and starts the threads that its handlers need.
fn start_threads(
    lifetime: &Bound<'_, PyAny>,
    registry: &Registry,
    name: &str,
    execution: Execution,
    threads: usize,
) -> PyResult<Threads> {
    let py = lifetime.py();
    let entries = registry.build(py, name)?;
    let shapes = || {
        let phases = nylon_core::Phase::ALL;
        let all =
            entries.iter().flat_map(move |entry| phases.into_iter().filter_map(|phase| entry.shape(phase)));
        all.filter(|shape| !is_inline(shape, execution))
    };
    let event_loop = match shapes().any(|shape| shape.is_async) {
        true => {
            let (event_loop, queue) = EventLoop::new(py)?;
            lifetime.call_method1("serve", (queue,))?;
            Some(event_loop)
        }
        false => None,
    };
    let pool = match shapes().any(|shape| !shape.is_async) {
        true => Some(Pool::start(py, name, threads)?),
        false => None,
    };
    Ok((entries, pool, event_loop))
}

type Threads = (Vec<Arc<Entry>>, Option<Arc<Pool>>, Option<Arc<EventLoop>>);

/// The registry behind a plugin object.
pub(crate) fn registry_of<'py>(plugin: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, Registry>> {
    let py = plugin.py();
    let found = plugin.getattr_opt("_registry")?;
    found.and_then(|registry| registry.cast_into::<Registry>().ok()).ok_or_else(|| {
        let found = plugin.get_type().name().map_or_else(|_| "something".to_owned(), |name| name.to_string());
        ErrorClass::PluginError.error(py, format!("plugin `{name}` must be a NylonPlugin, not {found}"))
    })
}

fn is_inline(shape: &Shape, execution: Execution) -> bool {
    shape.inline.unwrap_or(execution == Execution::Inline)
}

impl PluginHost for PythonHost {
    fn kind(&self) -> &'static str {
        "python"
    }

    fn entry(&self, name: &str) -> Result<Arc<dyn PluginEntry>, UnknownEntry> {
        match self.entries.iter().find(|entry| entry.entry.name() == name) {
            Some(entry) => Ok(entry.clone()),
            None => Err(UnknownEntry { name: name.to_owned(), known: self.entry_names() }),
        }
    }

    fn shutdown(&self, grace: Duration) {
        let take = || self.lifetime.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(lifetime) = take() else { return };
        let until = Instant::now() + grace;
        let left = || until.saturating_duration_since(Instant::now());
        if let Some(event_loop) = &self.event_loop {
            event_loop.close();
        }
        if let Some(pool) = &self.pool {
            pool.close();
        }
        Python::attach(|py| {
            if let Some(pool) = &self.pool
                && !pool.join(py, left())
            {
                tracing::warn!(
                    plugin = self.name,
                    "handlers of the plugin still run after {grace:?}: left alone"
                );
            }
            if let Err(error) = lifetime.call_method1(py, "shutdown", (left().as_secs_f64(),)) {
                let what = crate::dispatch::describe(py, &error);
                tracing::error!(plugin = self.name, "the plugin's shutdown raised {what}");
            }
        });
        drop(self.residence.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl PluginEntry for PythonEntry {
    fn traits(&self) -> EntryTraits {
        EntryTraits {
            phases: self.entry.phases(),
            request_body: self.entry.wants_body(),
            response_body: BodyUse::by_chunk(self.entry.streams()),
        }
    }

    fn keeps_sessions(&self) -> bool {
        self.entry.keeps_sessions()
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let PhaseCall {
            exchange,
            call,
            deadline,
            session,
            body,
            stream,
            policy,
            recording,
            response_body: _,
        } = call;
        let phase = call.phase;
        let mut context = Context::new(exchange, call, recording);
        let Some(shape) = self.entry.shape(phase) else {
            // Nobody handles this phase: the pipeline need not have called.
            let decided = context.decide(Decision::Next);
            debug_assert_eq!(decided, Ok(()));
            return Pending::Ready(context.finish(Ok(())));
        };
        let session = self.entry.keeps_sessions().then(|| handlers_of(session));
        let inline = is_inline(&shape, self.execution);
        let way = match (inline, shape.is_async, &self.pool, &self.event_loop) {
            (true, ..) => Way::Inline,
            (false, false, Some(pool), _) => Way::Pool(pool),
            (false, true, _, Some(event_loop)) => Way::Loop(event_loop),
            (false, ..) => {
                let failure = Failure::new(FailureKind::Unavailable, "the plugin's threads do not run");
                return Pending::Ready(context.finish(Err(failure)));
            }
        };
        let labels: Arc<Labels> = self.entry.labels.clone();
        let owner = match &way {
            Way::Inline => Waiting::inline(deadline),
            Way::Pool(_) => Waiting::pooled(),
            Way::Loop(event_loop) => Waiting::on_loop(event_loop),
        };
        let lease = Lease::new(context, labels, deadline, owner);
        let invocation = Invocation { entry: self.entry.clone(), session, lease: lease.clone() };
        let onward = Onward { stream, patience: policy.timeout };
        match way {
            Way::Inline => Pending::Ready(call::run_inline(invocation, &lease, onward)),
            way => match Given::hand_over(way, invocation, lease) {
                Ok(given) => Pending::Later(Box::pin(given.result(deadline, body, onward))),
                Err(refused) => Pending::Ready(refused),
            },
        }
    }
}

/// The closures of the session that a call belongs to; kept in the pipeline's session and dropped with it.
fn handlers_of(session: &mut nylon_gateway::plugin::Session) -> Arc<SessionHandlers> {
    if let Some(kept) = session.slot.as_ref().and_then(|slot| slot.downcast_ref::<Arc<SessionHandlers>>()) {
        return kept.clone();
    }
    let fresh = Arc::new(SessionHandlers::default());
    session.slot = Some(Box::new(fresh.clone()));
    fresh
}
