//! A worker's Rust half: bytes in, handlers run, bytes out.
//!
//! Python owns the connection, the loop and the order of things (`nylon/nats.py`); this side owns what happens
//! per call. The modules stand in the order of a call.

/// NATS protocol bytes: our messages, and the rest.
mod framer;
/// The asyncio protocol that the bytes arrive at.
mod protocol;
/// The time, and whether the worker stood still.
mod clock;
/// From a message to a call that may begin.
mod receive;
/// Calls by their ids: here, or ended, with their replies.
mod known;
/// Calls that wait for the gateway: for a body, or for leave to run.
mod waiting;
/// From a call to a handler that runs.
mod begin;
/// Closures that live on this worker.
mod sessions;
/// One call as the owner of its context.
mod call;
/// Bodies that travel in parts.
mod bodies;
/// Responses that handlers are still writing.
mod stream;
/// Threads for `def` handlers.
mod pool;
/// What a call is answered.
mod answer;
/// What the threads share, and the way out.
mod shared;
/// What waits to be written.
mod outbox;
/// Wakes the loop.
mod wake;
/// Counts.
mod counters;
/// The log.
mod report;

use crate::errors::ErrorClass;
use crate::registry::Registry;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Phase};
use nylon_wire::{EntryInfo, GroupSubjects, Info, Leave, Text, WireError};
pub(crate) use protocol::WorkerProtocol;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use shared::{Setup, Shared, locked};
use std::collections::HashMap;
use std::sync::Arc;

/// The Rust half of one worker. All methods belong to the loop's thread.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    stepper: Py<PyAny>,
}

type PublicationTuple<'py> = (String, String, Bound<'py, PyBytes>);

#[pymethods]
impl Worker {
    #[new]
    #[pyo3(signature = (registry, stepper, *, worker, group, prefix, concurrency, inline, threads, plain))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one call in nats.py")]
    fn new(
        py: Python<'_>,
        registry: &Registry,
        stepper: Py<PyAny>,
        worker: &str,
        group: String,
        prefix: &str,
        concurrency: usize,
        inline: bool,
        threads: usize,
        plain: bool,
    ) -> PyResult<Worker> {
        let config = |error: nylon_wire::SubjectError| ErrorClass::ConfigError.error(py, error.to_string());
        let subjects = GroupSubjects::new(prefix, &group).map_err(config)?;
        let own_subject = subjects.worker(worker).map_err(config)?;
        let entries: HashMap<_, _> =
            registry.build(py, &group)?.into_iter().map(|entry| (entry.name().to_owned(), entry)).collect();
        if entries.is_empty() {
            return Err(
                ErrorClass::PluginError.error(py, "the plugin has no entries: there is nothing to serve")
            );
        }
        let pooled = |phase| {
            move |entry: &Arc<crate::registry::Entry>| {
                entry.shape(phase).is_some_and(|shape| !shape.is_async && !shape.inline.unwrap_or(inline))
            }
        };
        let needs_pool = Phase::ALL.into_iter().any(|phase| entries.values().any(pooled(phase)));
        let start = stepper.getattr(py, "start")?;
        let setup = Setup {
            worker: Text::from(worker),
            group,
            subjects,
            own_subject,
            entries,
            concurrency,
            inline,
            plain,
        };
        let pool = pool::Pool::start(py, setup.worker.as_str(), if needs_pool { threads } else { 0 })?;
        let shared = Arc::new(Shared::new(setup, pool, wake::Wake::new()?));
        *locked(&shared.stepper) = Some(start);
        Ok(Worker { shared, stepper })
    }

    // ---- what it is ----

    #[getter]
    fn worker(&self) -> &str {
        self.shared.setup.worker.as_str()
    }

    #[getter]
    fn group(&self) -> &str {
        &self.shared.setup.group
    }

    #[getter]
    fn call_subject(&self) -> &str {
        &self.shared.setup.subjects.call
    }

    #[getter]
    fn own_subject(&self) -> &str {
        &self.shared.setup.own_subject
    }

    #[getter]
    fn announce_subject(&self) -> &str {
        &self.shared.setup.subjects.workers
    }

    #[getter]
    fn service_name(&self) -> &str {
        &self.shared.setup.subjects.service
    }

    /// The entries with their phases' names, for the banner.
    fn entries(&self) -> Vec<(String, Vec<&'static str>)> {
        let info = self.describe();
        let names = |entry: EntryInfo| {
            let phases = Phase::ALL.into_iter().filter(|phase| entry.shape.phases.contains(*phase));
            (entry.name, phases.map(Phase::name).collect())
        };
        info.entries.into_iter().map(names).collect()
    }

    /// The same for the NATS micro service.
    fn metadata(&self) -> HashMap<String, String> {
        self.describe().metadata().into_iter().collect()
    }

    /// The frame that announces the worker.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        frame(py, |out| self.describe().encode(out))
    }

    /// The frame that says it leaves.
    fn leave<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let setup = &self.shared.setup;
        let leave = Leave { worker: setup.worker.clone(), group: Text::from(setup.group.as_str()) };
        frame(py, |out| leave.encode(out))
    }

    // ---- the connection ----

    /// The protocol to put in front of `inner` on `transport`.
    fn protocol(&self, transport: Bound<'_, PyAny>, inner: Bound<'_, PyAny>) -> PyResult<WorkerProtocol> {
        WorkerProtocol::new(self.shared.clone(), transport, inner)
    }

    /// Take the messages of nats-py's subscription `sid` from the bytes; `own` for the worker's own subject.
    fn take_subscription(&self, sid: u64, own: bool) {
        self.shared.take_subscription(sid, own);
    }

    /// Connected and subscribed; the server takes payloads of so many bytes. Writes what has waited for that; with
    /// `plain`, take it now.
    fn online(&self, py: Python<'_>, max_payload: usize) -> PyResult<()> {
        self.shared.online(max_payload);
        self.wake(py)
    }

    /// The connection is gone.
    fn offline(&self) {
        self.shared.offline();
    }

    /// Handle one message that nats-py delivered. From a callback of the loop, not from a task.
    fn receive(&self, py: Python<'_>, own: bool, reply: &str, payload: &[u8]) {
        let mut ready = Vec::new();
        self.shared.beat(py);
        let reply = Bytes::copy_from_slice(reply.as_bytes());
        self.shared.receive(py, own, reply, &Bytes::copy_from_slice(payload), &mut ready);
        self.shared.run(py, ready);
    }

    /// Take what waits to be published: subject, reply subject, payload. Only with `plain`.
    fn take_publications<'py>(&self, py: Python<'py>) -> Vec<PublicationTuple<'py>> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.shared
            .publications(|(subject, reply, payload)| (text(subject), text(reply), payload.to_vec()))
            .into_iter()
            .map(|(subject, reply, payload)| (subject, reply, PyBytes::new(py, &payload)))
            .collect()
    }

    /// What the loop watches: call `wake` when it is readable.
    #[getter]
    fn wake_fd(&self) -> i32 {
        self.shared.wake.fd()
    }

    /// Write what other threads have left.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.wake.clear();
        self.shared.flush(py)
    }

    // ---- its life ----

    /// Give up calls that are late, end sessions of silent gateways, forget old replies. True if the worker has stood
    /// still, and messages of before that may still be in the socket: follow with `stall` and `caught_up`.
    fn tick(&self, py: Python<'_>) -> bool {
        self.shared.beat(py);
        self.shared.give_up(py, None);
        self.shared.watch.unresolved().is_some()
    }

    /// The last stall, while messages of before it may still come.
    #[getter]
    fn stall(&self) -> Option<u64> {
        self.shared.watch.unresolved().map(clock::Moment::number)
    }

    /// All that was sent before the end of `stall` has been received.
    fn caught_up(&self, stall: u64) {
        self.shared.watch.caught_up(clock::Moment::from_number(stall));
    }

    /// Give up all calls and sessions: the drain time is over.
    fn give_up(&self, py: Python<'_>) {
        const WHY: &str = "the worker stops, and its drain time is over";
        self.shared.give_up(py, Some(&Failure::new(FailureKind::Unavailable, WHY)));
    }

    /// Bytes that wait to be written.
    #[getter]
    fn unsent(&self) -> usize {
        self.shared.unsent()
    }

    /// Calls that are not over yet.
    #[getter]
    fn in_flight(&self) -> usize {
        self.shared.in_flight()
    }

    /// Sessions that are open here.
    #[getter]
    fn sessions(&self) -> usize {
        locked(&self.shared.sessions).len()
    }

    /// Counts since the start.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = PyDict::new(py);
        for (name, count) in self.shared.counters.all() {
            stats.set_item(name, count)?;
        }
        stats.set_item("dropped", self.shared.dropped())?;
        stats.set_item("in_flight", self.in_flight())?;
        stats.set_item("sessions", self.sessions())?;
        Ok(stats)
    }

    /// The last failure of a call.
    #[getter]
    fn last_error(&self) -> Option<String> {
        self.shared.counters.last_error()
    }

    /// End the threads. False if one is stuck in a handler.
    fn close(&self, py: Python<'_>) -> PyResult<bool> {
        self.give_up(py);
        let start = locked(&self.shared.stepper).take();
        drop(start);
        self.stepper.call_method0(py, "close")?;
        self.shared.offline();
        self.shared.pool.close(py)
    }
}

impl Worker {
    fn describe(&self) -> Info {
        let setup = &self.shared.setup;
        let mut entries: Vec<_> = setup
            .entries
            .iter()
            .map(|(name, entry)| EntryInfo { name: name.clone(), shape: receive::shape_of(entry) })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Info {
            worker: setup.worker.clone(),
            group: Text::from(setup.group.as_str()),
            software: Text::from(env!("CARGO_PKG_VERSION")),
            concurrency: u32::try_from(setup.concurrency).unwrap_or(u32::MAX),
            entries,
        }
    }
}

fn frame<'py>(
    py: Python<'py>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::new();
    encode(&mut out).map_err(|error| ErrorClass::ConfigError.error(py, error.to_string()))?;
    Ok(PyBytes::new(py, &out))
}
