//! What the process keeps while Python plugins run in it.
//!
//! The interpreter's switch interval is lowered: with its 5 ms one busy Python thread takes the pool to 1,300
//! and an inline handler to 200 requests per second. And the gateway's watchdog looks for handlers that are stuck: the
//! log says which one it is, and where it stands.

use crate::context::Lease;
use nylon_gateway::plugin::watchdog::{Look, STUCK_AFTER, Watch};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::cell::OnceCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// The switch interval while plugins run, in seconds.
const SWITCH_INTERVAL: f64 = 0.0005;

/// One host's share in it; the first one begins it and the last one ends it.
pub(super) struct Residence {
    _watch: Watch,
}

struct Process {
    hosts: usize,
    /// The switch interval before, to be restored.
    interval: Option<f64>,
}

static PROCESS: Mutex<Process> = Mutex::new(Process { hosts: 0, interval: None });
/// The threads that run handlers.
static SEATS: Mutex<Vec<Weak<Seat>>> = Mutex::new(Vec::new());

/// What one thread runs at the moment.
struct Seat {
    /// `threading.get_ident()`, to find the thread's stack.
    ident: u64,
    lease: Mutex<Option<(Arc<Lease>, bool)>>,
}

thread_local! {
    static SEAT: OnceCell<Arc<Seat>> = const { OnceCell::new() };
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Residence {
    pub(super) fn enter(py: Python<'_>) -> PyResult<Residence> {
        let sys = py.import("sys")?;
        let before: f64 = sys.call_method0("getswitchinterval")?.extract()?;
        let residence = Residence { _watch: Watch::keep(Look { kind: "python", look })? };
        let mut process = locked(&PROCESS);
        process.hosts += 1;
        if process.hosts > 1 {
            return Ok(residence);
        }
        process.interval = (before > SWITCH_INTERVAL).then_some(before);
        let lower = process.interval.is_some();
        drop(process);
        if lower {
            sys.call_method1("setswitchinterval", (SWITCH_INTERVAL,))?;
        }
        Ok(residence)
    }
}

impl Drop for Residence {
    fn drop(&mut self) {
        let restore = {
            let mut process = locked(&PROCESS);
            process.hosts -= 1;
            if process.hosts > 0 {
                return;
            }
            process.interval.take()
        };
        if let Some(interval) = restore {
            let restored = Python::attach(|py| {
                py.import("sys")?.call_method1("setswitchinterval", (interval,)).map(drop)
            });
            if let Err(error) = restored {
                tracing::warn!("cannot restore the interpreter's switch interval: {error}");
            }
        }
    }
}

/// Runs a handler under the watchdog's eyes.
pub(super) fn watched<R>(py: Python<'_>, lease: &Arc<Lease>, run: impl FnOnce() -> R) -> R {
    SEAT.with(|seat| {
        let seat = seat.get_or_init(|| {
            let seat = Arc::new(Seat { ident: thread_ident(py), lease: Mutex::default() });
            let mut seats = locked(&SEATS);
            seats.retain(|seat| seat.strong_count() > 0);
            seats.push(Arc::downgrade(&seat));
            seat
        });
        *locked(&seat.lease) = Some((lease.clone(), false));
        let result = run();
        *locked(&seat.lease) = None;
        result
    })
}

fn thread_ident(py: Python<'_>) -> u64 {
    let ident = py.import("threading").and_then(|threading| threading.call_method0("get_ident")?.extract());
    ident.unwrap_or(0)
}

/// Looks at all seats, for the watchdog.
fn look() {
    let seats: Vec<Arc<Seat>> = locked(&SEATS).iter().filter_map(Weak::upgrade).collect();
    for seat in seats {
        let stuck = match &mut *locked(&seat.lease) {
            Some((lease, told)) if !*told && lease.deadline + STUCK_AFTER < Instant::now() => {
                *told = true;
                Some(lease.clone())
            }
            _ => None,
        };
        if let Some(lease) = stuck {
            tell(&seat, &lease);
        }
    }
}

fn tell(seat: &Seat, lease: &Lease) {
    static STUCK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    tracing::warn!(
        plugin = lease.labels.plugin,
        entry = lease.labels.entry,
        phase = lease.phase.name(),
        request = %lease.id,
        "a handler is stuck: it still runs, long after its time-out, and keeps its thread"
    );
    // Waits for the GIL, which a handler stuck in native code may hold: hence the line above first.
    let told = Python::try_attach(|py| {
        let labels = &lease.labels;
        let facts = (
            labels.plugin.as_str(),
            labels.entry.as_str(),
            lease.phase.name(),
            lease.id.to_string(),
            seat.ident,
        );
        STUCK.import(py, "nylon.logs", "log_stuck")?.call1(facts).map(drop)
    });
    if let Some(Err(error)) = told {
        tracing::warn!("cannot show where it stands: {error}");
    }
}

/// Runs a data-plane thread with one Python thread state for its whole life. Making one per call would cost
/// four times what a short handler costs.
pub(crate) fn keep_thread_state(run: Box<dyn FnOnce() + Send>) {
    Python::attach(|py| py.detach(run));
}
