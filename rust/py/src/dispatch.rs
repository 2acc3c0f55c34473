//! From a lent context to a finished call, whoever lent it.
//!
//! The gateway's hosts, the NATS worker and the test client all run handlers through here, which is half of
//! "same behaviour" (the other half is `nylon-core`): the same classes, the same treatment of what a handler
//! returns or raises, the same place where the state is written back.

use crate::context::{Context, Lease, state};
use crate::errors::ErrorClass;
use crate::registry::{Entry, SessionHandlers};
use nylon_core::{Failure, FailureKind};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::Arc;

/// One call of one handler, not yet begun. Made without the GIL.
pub(crate) struct Invocation {
    /// The entry.
    pub(crate) entry: Arc<Entry>,
    /// The session's closures; `None` for an entry that keeps nothing.
    pub(crate) session: Option<Arc<SessionHandlers>>,
    /// The lent context.
    pub(crate) lease: Arc<Lease>,
}

impl Invocation {
    /// Finds the handler and wraps the context. `None` where the call is over already: given up while it waited,
    /// or failed because `setup` raised.
    pub(crate) fn begin<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyAny>, Bound<'py, Context>)> {
        if self.lease.is_closed() {
            return None;
        }
        let begun = self
            .entry
            .handler(py, self.session.as_deref(), self.lease.phase)
            .and_then(|handler| Ok((handler, Bound::new(py, Context::new(self.lease.clone()))?)));
        begun.map_err(|error| fail(py, &self.lease, error)).ok()
    }

    /// Runs the handler to its end on this thread: a `def`, or an `async def` stepped in place.
    pub(crate) fn run(self, py: Python<'_>) {
        let Some((handler, context)) = self.begin(py) else { return };
        let is_async = self.entry.shape(self.lease.phase).is_some_and(|shape| shape.is_async);
        let result = match is_async {
            true => handler.call1((&context,)).and_then(|coroutine| step_once(&coroutine)),
            false => {
                in_fresh_context(&handler, context.as_any()).and_then(|result| refuse_awaitable(&result))
            }
        };
        match result {
            Ok(()) => complete(py, &context),
            Err(error) => fail(py, &self.lease, error),
        }
    }
}

/// Calls a function in a copy of this thread's `contextvars` context, so that what a handler sets there does not
/// show in the next request's handler.
fn in_fresh_context<'py>(
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = function.py();
    let variables = COPY.import(py, "contextvars", "copy_context")?.call0()?;
    variables.call_method1(pyo3::intern!(py, "run"), (function, argument))
}

/// A `def` handler that gives back a coroutine has not run at all.
fn refuse_awaitable(result: &Bound<'_, PyAny>) -> PyResult<()> {
    if result.is_none() || !result.hasattr("__await__")? {
        return Ok(());
    }
    if result.hasattr("close")? {
        result.call_method0("close")?;
    }
    Err(PyTypeError::new_err(
        "the handler gave back an awaitable that nobody awaits: declare it (and each decorator around it) async def",
    ))
}

/// Runs an inline `async def` handler: it must come to its end without waiting, since there is no loop here.
fn step_once(coroutine: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = coroutine.py();
    const WAITED: &str = "an inline async def handler must not wait for anything: leave inline off, and it runs \
                          on the plugin's event loop";
    let send = coroutine.getattr(pyo3::intern!(py, "send"))?;
    match in_fresh_context(&send, py.None().bind(py)) {
        Ok(_) => {
            coroutine.call_method0("close")?;
            Err(PyRuntimeError::new_err(WAITED))
        }
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) => Ok(()),
        Err(error) => {
            if error.is_instance_of::<PyRuntimeError>(py)
                && error.value(py).to_string().contains("no running event loop")
            {
                error.add_note(py, WAITED)?;
            }
            Err(error)
        }
    }
}

/// The handler has returned.
pub(crate) fn complete(py: Python<'_>, context: &Bound<'_, Context>) {
    let lease = &context.get().lease;
    match state::keep(lease, py) {
        Ok(()) => {
            lease.end(Ok(()));
        }
        Err(error) => fail(py, lease, error),
    }
    forget(lease);
}

/// The handler has raised (or its `setup` has). Whatever it was, even `SystemExit`, it ends this call only.
pub(crate) fn fail(py: Python<'_>, lease: &Lease, error: PyErr) {
    let body_failure = lease.body_failure().filter(|_| ErrorClass::BodyError.is_of(py, &error));
    // A client that leaves in the middle of a stream is an everyday matter.
    let left = ErrorClass::StreamClosed.is_of(py, &error);
    let known = body_failure.is_some() || left;
    let kind = if left { FailureKind::Cancelled } else { FailureKind::Raised };
    let failure = body_failure.unwrap_or_else(|| Failure::new(kind, describe(py, &error)));
    let in_time = lease.end(Err(failure));
    forget(lease);
    if !known && let Err(unlogged) = log(py, lease, &error, in_time) {
        tracing::error!(plugin = lease.labels.plugin, entry = lease.labels.entry, request = %lease.id,
            "a handler raised {}, and logging that failed: {}", describe(py, &error), describe(py, &unlogged));
    }
}

/// Breaks the cycle task → frame → context → lease → task.
fn forget(lease: &Lease) {
    drop(lease.take_task());
    drop(lease.take_readers());
}

/// `ValueError: bad port`, for the gateway's log.
pub(crate) fn describe(py: Python<'_>, error: &PyErr) -> String {
    let class = error.get_type(py).name().map_or_else(|_| "exception".to_owned(), |name| name.to_string());
    match error.value(py).str() {
        Ok(text) if text.is_empty().unwrap_or(true) => class,
        Ok(text) => format!("{class}: {}", text.to_string_lossy()),
        Err(_) => class,
    }
}

fn log(py: Python<'_>, lease: &Lease, error: &PyErr, in_time: bool) -> PyResult<()> {
    static LOG: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOG.import(py, "nylon.logs", "log_failure")?.call1((
        lease.labels.plugin.as_str(),
        lease.labels.entry.as_str(),
        lease.phase.name(),
        lease.id.to_string(),
        // Not `value`: only this sets the traceback on it.
        error.clone_ref(py).into_value(py),
        in_time,
    ))?;
    Ok(())
}

/// Ends the call of a coroutine that the stepper (`nylon/stepper.py`) ran.
#[pyfunction]
#[pyo3(signature = (context, error=None))]
pub(crate) fn _finish(context: &Bound<'_, Context>, error: Option<Bound<'_, PyAny>>) {
    match error {
        None => complete(context.py(), context),
        Some(error) => fail(context.py(), &context.get().lease, PyErr::from_value(error)),
    }
}

/// Notes that a handler waits, and which task goes on with it. False where its call is over already.
#[pyfunction]
pub(crate) fn _suspend(context: &Bound<'_, Context>, task: Py<PyAny>) -> bool {
    let lease = &context.get().lease;
    lease.keep_task(task);
    !lease.is_closed()
}
