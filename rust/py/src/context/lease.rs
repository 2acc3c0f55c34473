//! A core context lent to Python.
//!
//! Python may keep a reference to `ctx` for ever, and a handler may still run after its time-out. So what
//! Python holds is a lease: the context stands in a cell, each access is one short lock, and whoever takes the
//! context out first (the handler that returns, the host whose patience ends) has closed it for everybody else.
//! No Python code runs under the lock.

use super::stream::{Manner, Outlet};
use crate::errors;
use bytes::Bytes;
use nylon_core::{
    Context, Decision, Failure, FailureKind, Finished, Op, OpError, Outcome, Phase, RequestId, StreamError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// Names of the handler that has the lease, for logs.
#[derive(Debug)]
pub(crate) struct Labels {
    /// The plugin.
    pub(crate) plugin: String,
    /// The entry in it.
    pub(crate) entry: String,
}

/// Who lent the context: the gateway's call, a worker's message.
pub(crate) trait Owner: Send + Sync {
    /// The handler came to its end in time. Called once, with no lock held, on the thread that ran it and with
    /// the GIL: it must not block.
    fn finished(&self, finished: Finished);

    /// An `async def` handler awaits the request body: the owner fetches it and then calls
    /// [`Lease::supply_body`]. An error says why it cannot be had.
    fn body_wanted(&self) -> Result<(), &'static str>;

    /// The handler begins a response whose body it writes from now on: `finished` is its result. Called once instead of
    /// [`Owner::finished`], under the same conditions. What comes back takes what is written.
    fn stream_begun(&self, finished: Finished) -> (Arc<dyn Outlet>, Manner);

    /// The handler that wrote a stream came to its end, in whatever way.
    fn stream_over(&self);

    /// Whether a result is too late now. For handlers that nobody can interrupt: their lateness is judged when
    /// they return. Everywhere else the owner's own clock closes the lease.
    fn is_late(&self) -> bool {
        false
    }
}

/// A core context lent to Python, and what belongs to the call beside it.
pub(crate) struct Lease<O: ?Sized + Owner = dyn Owner> {
    open: Mutex<Option<Context>>,
    asyncio: Mutex<Asyncio>,
    body_failure: Mutex<Option<Failure>>,
    content_type_set: AtomicBool,
    /// Where the handler writes its response to.
    stream: OnceLock<Arc<dyn Outlet>>,
    /// `ctx.state` as the handler has it.
    pub(super) state: PyOnceLock<Py<PyDict>>,
    /// The call's phase.
    pub(crate) phase: Phase,
    /// The request's name, good after the close.
    pub(crate) id: RequestId,
    /// When the result was due at first (a wait for the client's body moves the real deadline back).
    pub(crate) deadline: Instant,
    /// Whose handler runs.
    pub(crate) labels: Arc<Labels>,
    /// Who lent the context.
    pub(crate) owner: O,
}

/// What the event loop keeps for a handler that waits.
#[derive(Default)]
struct Asyncio {
    task: Option<Py<PyAny>>,
    readers: Vec<Py<PyAny>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves no half-made value behind: every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<O: Owner> Lease<O> {
    /// Lends `context`.
    pub(crate) fn new(context: Context, labels: Arc<Labels>, deadline: Instant, owner: O) -> Arc<Lease<O>> {
        Arc::new(Lease {
            phase: context.call().phase,
            id: context.exchange().facts.id,
            open: Mutex::new(Some(context)),
            asyncio: Mutex::default(),
            body_failure: Mutex::default(),
            content_type_set: AtomicBool::new(false),
            stream: OnceLock::new(),
            state: PyOnceLock::new(),
            deadline,
            labels,
            owner,
        })
    }
}

impl<O: ?Sized + Owner> Lease<O> {
    /// Ends the lease from the handler's side. False where the host has closed it already: then the result
    /// comes too late and counts for nothing.
    pub(crate) fn end(&self, returned: Result<(), Failure>) -> bool {
        let returned = match returned {
            Ok(()) if self.owner.is_late() => {
                Err(Failure::new(FailureKind::TimedOut, "the handler returned after the phase's timeout_ms"))
            }
            returned => returned,
        };
        let Some(context) = locked(&self.open).take() else { return false };
        self.conclude(context, returned);
        true
    }

    /// Takes the context back, from the host's side. `None` where the handler has ended already, or has begun a
    /// stream: then its result is handed over, or is just about to be.
    pub(crate) fn close(&self, returned: Result<(), Failure>) -> Option<Finished> {
        let mut open = locked(&self.open);
        if open.as_ref().is_some_and(Context::has_begun) {
            return None;
        }
        let context = open.take()?;
        drop(open);
        Some(context.finish(returned))
    }

    /// Ends the lease from the owner's side, and tells the owner as if the handler had. False where that has ended.
    pub(crate) fn give_up(&self, failure: Failure) -> bool {
        let Some(context) = locked(&self.open).take() else { return false };
        if let Some(outlet) = self.stream.get() {
            outlet.pipe().end(Err(failure.clone()));
            outlet.pipe().close(&failure.message);
        }
        self.conclude(context, Err(failure));
        true
    }

    fn conclude(&self, context: Context, returned: Result<(), Failure>) {
        let begun = context.has_begun();
        let finished = context.finish(returned);
        let Some(outlet) = self.stream.get().filter(|_| begun) else {
            return self.owner.finished(finished);
        };
        const UNENDED: &str = "the handler returned without stream.end()";
        outlet.pipe().end(match finished.outcome {
            Outcome::Failed(failure) => Err(failure),
            _ => Err(Failure::new(FailureKind::Undecided, UNENDED)),
        });
        outlet.written();
        self.owner.stream_over();
    }

    /// Begins a response that the handler writes. Its head goes out as it is now.
    pub(crate) fn begin_stream(&self, py: Python<'_>) -> PyResult<(Arc<dyn Outlet>, Manner)> {
        if self.owner.is_late() {
            return Err(errors::closed(py));
        }
        let finished = self.change(py, Context::begin_stream)?.map_err(|error| match error {
            StreamError::Phase(error) => errors::refused(py, error),
            StreamError::Decided(error) => errors::ErrorClass::DecisionError.error(py, error.to_string()),
        })?;
        let (outlet, manner) = self.owner.stream_begun(finished);
        // A context begins one stream only, so nothing is there yet.
        let outlet = self.stream.get_or_init(|| outlet).clone();
        Ok((outlet, manner))
    }

    /// Whether nobody can use the context any more.
    pub(crate) fn is_closed(&self) -> bool {
        locked(&self.open).is_none()
    }

    /// Looks at the context. The function must not run Python code; making strings and bytes is fine.
    pub(crate) fn read<R>(&self, py: Python<'_>, look: impl FnOnce(&Context) -> R) -> PyResult<R> {
        match &*locked(&self.open) {
            Some(context) => Ok(look(context)),
            None => Err(errors::closed(py)),
        }
    }

    /// Makes one mutation.
    pub(crate) fn write(&self, py: Python<'_>, op: Result<Op, OpError>) -> PyResult<()> {
        let op = op.map_err(|error| errors::refused(py, error))?;
        let content_type = matches!(&op,
            Op::SetResponseHeader(name, _) | Op::AddResponseHeader(name, _) if name == http::header::CONTENT_TYPE);
        self.write_quietly(py, op)?;
        if content_type {
            self.content_type_set.store(true, Relaxed);
        }
        Ok(())
    }

    /// Makes a mutation that follows from another one, such as a body's content type.
    pub(crate) fn write_quietly(&self, py: Python<'_>, op: Op) -> PyResult<()> {
        self.change(py, |context| context.write(op))?.map_err(|error| errors::refused(py, error))
    }

    /// Whether this handler has chosen the response's content type itself.
    pub(crate) fn has_content_type(&self) -> bool {
        self.content_type_set.load(Relaxed)
    }

    /// Takes the handler's decision.
    pub(crate) fn decide(&self, py: Python<'_>, decision: Decision) -> PyResult<()> {
        self.change(py, |context| context.decide(decision))?
            .map_err(|error| errors::ErrorClass::DecisionError.error(py, error.to_string()))
    }

    /// Replaces the session's state.
    pub(crate) fn set_state(&self, py: Python<'_>, state: Bytes) -> PyResult<()> {
        self.change(py, |context| context.set_state(state))
    }

    fn change<R>(&self, py: Python<'_>, change: impl FnOnce(&mut Context) -> R) -> PyResult<R> {
        match &mut *locked(&self.open) {
            Some(context) => Ok(change(context)),
            None => Err(errors::closed(py)),
        }
    }

    /// Hands in the body that [`Owner::body_wanted`] asked for. Follow with [`Lease::wake_readers`] on the loop.
    pub(crate) fn supply_body(&self, body: Result<Bytes, Failure>) {
        match body {
            Ok(body) => {
                if let Some(context) = &mut *locked(&self.open) {
                    context.supply_request_body(body);
                }
            }
            Err(failure) => *locked(&self.body_failure) = Some(failure),
        }
    }

    /// Why the body could not be had, if that was tried.
    pub(crate) fn body_failure(&self) -> Option<Failure> {
        locked(&self.body_failure).clone()
    }

    /// Keeps a future that wants the body. True for the first one: then the owner must be asked.
    pub(crate) fn add_reader(&self, future: Py<PyAny>) -> bool {
        let mut asyncio = locked(&self.asyncio);
        asyncio.readers.push(future);
        asyncio.readers.len() == 1
    }

    /// Takes the futures that want the body.
    pub(crate) fn take_readers(&self) -> Vec<Py<PyAny>> {
        std::mem::take(&mut locked(&self.asyncio).readers)
    }

    /// Keeps the task that goes on with the handler, so that the host can cancel it.
    pub(crate) fn keep_task(&self, task: Py<PyAny>) {
        locked(&self.asyncio).task = Some(task);
    }

    /// That task, which stays.
    pub(crate) fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        locked(&self.asyncio).task.as_ref().map(|task| task.clone_ref(py))
    }

    /// Takes that task: there is nothing to cancel any more, or it is cancelled now.
    pub(crate) fn take_task(&self) -> Option<Py<PyAny>> {
        locked(&self.asyncio).task.take()
    }
}
