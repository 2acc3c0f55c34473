//! Threads for `def` handlers.
//!
//! The threads are Python's (`threading.Thread`), so that handlers find a proper current thread and a debugger
//! a name. A thread that has the GIL takes job after job without giving it back and only waits without it; jobs
//! stay in the one queue until a thread begins them, so none stands behind a handler that blocks.

use super::residence;
use crate::dispatch::Invocation;
use nylon_core::{Failure, FailureKind};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most calls that wait for a thread. More would only time out.
const MAX_WAITING: usize = 4096;

/// The pool of one plugin.
pub(super) struct Pool {
    queue: Mutex<Queue>,
    ready: Condvar,
    threads: Mutex<Vec<Py<PyAny>>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Invocation>,
    idle: usize,
    closed: bool,
}

/// What a thread of the pool runs.
#[pyclass(frozen, module = "nylon._core")]
struct PoolThread {
    pool: Arc<Pool>,
}

#[pymethods]
impl PoolThread {
    fn __call__(&self, py: Python<'_>) {
        while let Some(invocation) = self.pool.try_take().or_else(|| py.detach(|| self.pool.take())) {
            residence::watched(py, &invocation.lease.clone(), || invocation.run(py));
        }
    }
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start(py: Python<'_>, plugin: &str, threads: usize) -> PyResult<Arc<Pool>> {
        let pool =
            Arc::new(Pool { queue: Mutex::default(), ready: Condvar::new(), threads: Mutex::default() });
        let class = py.import("threading")?.getattr("Thread")?;
        for number in 1..=threads.max(1) {
            let arguments = PyDict::new(py);
            arguments.set_item("target", Bound::new(py, PoolThread { pool: pool.clone() })?)?;
            arguments.set_item("name", format!("nylon-{plugin}-{number}"))?;
            // Not waited for by the interpreter: the gateway's own stop does that, within its grace.
            arguments.set_item("daemon", true)?;
            let thread = class.call((), Some(&arguments))?;
            thread.call_method0("start")?;
            pool.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread.unbind());
        }
        Ok(pool)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a call.
    pub(super) fn push(&self, invocation: Invocation) -> Result<(), Failure> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Failure::new(FailureKind::Unavailable, "the plugin is shut down"));
        }
        if queue.jobs.len() >= MAX_WAITING {
            let why = format!("{MAX_WAITING} calls wait for the plugin's threads already");
            return Err(Failure::new(FailureKind::Overloaded, why));
        }
        queue.jobs.push_back(invocation);
        let wake = queue.idle > 0;
        drop(queue);
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    fn try_take(&self) -> Option<Invocation> {
        self.queue().jobs.pop_front()
    }

    /// Waits for the next call, without the GIL. `None` once the pool is closed and empty.
    fn take(&self) -> Option<Invocation> {
        let mut queue = self.queue();
        loop {
            if let Some(invocation) = queue.jobs.pop_front() {
                return Some(invocation);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// Takes no more calls; what is queued still runs.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.ready.notify_all();
    }

    /// Waits for the threads to end. False where one still runs.
    pub(super) fn join(&self, py: Python<'_>, grace: Duration) -> bool {
        let until = Instant::now() + grace;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.iter().fold(true, |all_ended, thread| {
            let left = until.saturating_duration_since(Instant::now()).as_secs_f64();
            let thread = thread.bind(py);
            let ended = thread
                .call_method1("join", (left,))
                .and_then(|_| thread.call_method0("is_alive"))
                .and_then(|alive| alive.is_truthy())
                .is_ok_and(|alive| !alive);
            all_ended && ended
        })
    }
}
