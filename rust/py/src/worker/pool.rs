//! The threads that run a worker's `def` handlers, so that one that blocks stops neither the loop nor the rest.
//!
//! They are Python's own (`threading.Thread`), so that handlers find a proper current thread. The queue needs no
//! limit of its own: the worker takes no more calls than its concurrency.

use super::begin::Ready;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long [`Pool::close`] waits for threads that are in a handler.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Ready>,
    /// Threads that wait; the others look by themselves.
    idle: usize,
    closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_take(&self) -> Option<Ready> {
        self.state().jobs.pop_front()
    }

    /// Waits for a job, without the GIL. `None` once the pool is closed.
    fn take(&self) -> Option<Ready> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

/// What a thread of the pool runs.
#[pyclass(frozen, module = "nylon._core")]
struct WorkerThread {
    queue: Arc<Queue>,
}

#[pymethods]
impl WorkerThread {
    fn __call__(&self, py: Python<'_>) {
        // The GIL is kept while there is work: it is handed over by Python's own switch interval.
        while let Some(ready) = self.queue.try_take().or_else(|| py.detach(|| self.queue.take())) {
            let Some(Ready { invocation, call, .. }) = ready.call.owner.shared().may_run(ready) else {
                continue;
            };
            let run = AssertUnwindSafe(|| {
                if !call.owner.is_overdue() {
                    invocation.run(py);
                }
            });
            if catch_unwind(run).is_err() {
                super::report::failure(py, "a panic ended a handler's call");
            }
            call.owner.left_thread(&call);
        }
    }
}

pub(crate) struct Pool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<Py<PyAny>>>,
}

impl Pool {
    /// Starts `threads` threads; none is fine where every handler runs on the loop.
    pub(crate) fn start(py: Python<'_>, name: &str, threads: usize) -> PyResult<Pool> {
        let pool = Pool { queue: Arc::default(), threads: Mutex::default() };
        let class = py.import("threading")?.getattr("Thread")?;
        for number in 1..=threads {
            let arguments = PyDict::new(py);
            arguments.set_item("target", Bound::new(py, WorkerThread { queue: pool.queue.clone() })?)?;
            arguments.set_item("name", format!("nylon-{name}-{number}"))?;
            // Not waited for by the interpreter: the worker's own drain does that, within its time.
            arguments.set_item("daemon", true)?;
            let thread = class.call((), Some(&arguments))?;
            thread.call_method0("start")?;
            pool.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread.unbind());
        }
        Ok(pool)
    }

    pub(crate) fn submit(&self, job: Ready) {
        let mut state = self.queue.state();
        state.jobs.push_back(job);
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.queue.ready.notify_one();
        }
    }

    /// Ends the threads. False where one is stuck in a handler: Python must then not be finalised under it.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<bool> {
        let unrun = {
            let mut state = self.queue.state();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(unrun);
        self.queue.ready.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let patience = Instant::now() + CLOSE_GRACE;
        let mut all_ended = true;
        for thread in threads {
            let left = patience.saturating_duration_since(Instant::now()).as_secs_f64();
            thread.call_method1(py, "join", (left,))?;
            all_ended &= !thread.call_method0(py, "is_alive")?.is_truthy(py)?;
        }
        Ok(all_ended)
    }
}
