//! The loop for `async def` handlers, from the data plane's side: a queue, and a pipe whose reading end the
//! loop watches. `call_soon_threadsafe` would need the GIL on the data-plane thread, once per call; one byte in
//! a pipe wakes the loop for a whole batch, and none is written while the loop is on its way already.

use crate::context::{Lease, Outlet, wake_readers, wake_writer};
use crate::dispatch::{Invocation, describe};
use crate::text;
use nylon_core::{Failure, FailureKind};
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most `async def` handlers that run at once. More would only time out.
const MAX_RUNNING: usize = 10_000;

/// What the loop is asked to do.
pub(super) enum LoopJob {
    /// Start a handler.
    Call(Invocation),
    /// Give the request body to those who await it.
    WakeReaders(Arc<Lease>),
    /// Let a handler write on that waited for room, or tell it that there will be none.
    WakeWriter(Arc<dyn Outlet>),
    /// Cancel a handler whose call is given up.
    Cancel(Arc<Lease>),
    /// The same, for one that may still notice by itself that nobody takes what it writes.
    CancelAfter(Arc<Lease>, Duration),
}

/// The queue of one plugin's loop.
pub(super) struct EventLoop {
    queue: Mutex<Queue>,
    writer: PipeWriter,
    running: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<LoopJob>,
    /// A byte is in the pipe, or about to be.
    woken: bool,
    closed: bool,
}

impl EventLoop {
    /// A queue, and the loop's end of it.
    pub(super) fn new(py: Python<'_>) -> PyResult<(Arc<EventLoop>, Bound<'_, LoopQueue>)> {
        let (reader, writer) = std::io::pipe()?;
        let event_loop =
            Arc::new(EventLoop { queue: Mutex::default(), writer, running: AtomicUsize::new(0) });
        let end = Mutex::new(Some(End { event_loop: event_loop.clone(), reader }));
        let queue = Bound::new(py, LoopQueue { end })?;
        Ok((event_loop, queue))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a call. Whoever queued it calls [`EventLoop::release`] when it is over, whatever it came to.
    pub(super) fn push_call(&self, invocation: Invocation) -> Result<(), Failure> {
        if self.running.fetch_add(1, Relaxed) >= MAX_RUNNING {
            self.release();
            let why = format!("{MAX_RUNNING} async handlers of the plugin run already");
            return Err(Failure::new(FailureKind::Overloaded, why));
        }
        if !self.push(LoopJob::Call(invocation)) {
            self.release();
            return Err(Failure::new(FailureKind::Unavailable, "the plugin is shut down"));
        }
        Ok(())
    }

    /// A call is over.
    pub(super) fn release(&self) {
        self.running.fetch_sub(1, Relaxed);
    }

    /// Queues a job. False once the loop is closed.
    pub(super) fn push(&self, job: LoopJob) -> bool {
        let mut queue = self.queue();
        if queue.closed && matches!(job, LoopJob::Call(_)) {
            return false;
        }
        queue.jobs.push(job);
        let asleep = !std::mem::replace(&mut queue.woken, true);
        drop(queue);
        // At most one byte stands in the pipe, so this never blocks. It fails only once the loop is gone.
        if asleep && let Err(error) = (&self.writer).write_all(&[1]) {
            tracing::debug!("a plugin's event loop is gone: {error}");
        }
        true
    }

    /// Takes no more calls; what is queued still runs.
    pub(super) fn close(&self) {
        self.queue().closed = true;
    }
}

/// The loop's end of the queue.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct LoopQueue {
    end: Mutex<Option<End>>,
}

struct End {
    event_loop: Arc<EventLoop>,
    reader: PipeReader,
}

impl LoopQueue {
    fn with<R>(&self, look: impl FnOnce(&End) -> R) -> Option<R> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
    }
}

#[pymethods]
impl LoopQueue {
    /// What the loop watches; -1 once closed.
    fn fileno(&self) -> RawFd {
        self.with(|end| end.reader.as_raw_fd()).unwrap_or(-1)
    }

    /// How many calls are queued or running.
    fn running(&self) -> usize {
        self.with(|end| end.event_loop.running.load(Relaxed)).unwrap_or(0)
    }

    /// Gives the pipe back now, whoever still holds this object.
    fn close(&self) {
        drop(self.end.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Takes all jobs: cancels and wakes at once, and gives back the handlers to be started, each with its
    /// context. Called when the pipe is readable, on the loop's thread.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let taken = self.with(|end| {
            // One byte per wake; the pipe is readable, so this does not block.
            (&end.reader).read_exact(&mut [0])?;
            let mut queue = end.event_loop.queue();
            queue.woken = false;
            Ok::<_, std::io::Error>(std::mem::take(&mut queue.jobs))
        });
        let jobs = taken.transpose()?.unwrap_or_default();
        let calls = PyList::empty(py);
        for job in jobs {
            let done = match job {
                LoopJob::Call(invocation) => match invocation.begin(py) {
                    Some(begun) => calls.append(begun),
                    None => Ok(()),
                },
                LoopJob::WakeReaders(lease) => wake_readers(py, &lease),
                LoopJob::WakeWriter(outlet) => wake_writer(py, outlet.pipe()),
                LoopJob::CancelAfter(lease, patience) => match lease.task(py) {
                    Some(task) => cancel_after(py, &task, patience),
                    None => Ok(()),
                },
                LoopJob::Cancel(lease) => match lease.take_task() {
                    Some(task) => task.call_method0(py, pyo3::intern!(py, "cancel")).map(drop),
                    None => Ok(()),
                },
            };
            if let Err(error) = done {
                tracing::error!("a job of a plugin's event loop failed: {}", describe(py, &error));
            }
        }
        Ok(calls)
    }
}

/// On the loop's thread, in one of its callbacks. A task that is done by then is left alone.
fn cancel_after(py: Python<'_>, task: &Py<PyAny>, patience: Duration) -> PyResult<()> {
    let cancel = task.getattr(py, pyo3::intern!(py, "cancel"))?;
    let event_loop = text::running_loop(py)?;
    event_loop.call_method1(pyo3::intern!(py, "call_later"), (patience.as_secs_f64(), cancel)).map(drop)
}
