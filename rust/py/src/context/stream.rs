//! `ctx.response.stream()`: the response's body, written while it is on its way.

use super::done::done;
use super::lease::Lease;
use crate::errors::ErrorClass;
use crate::text;
use nylon_gateway::plugin::pipe::{self, Room, Unwritten};
use pyo3::prelude::*;
use std::sync::Arc;

/// What stands between a handler and who takes what it writes; an `async def` handler waits on a future.
pub(crate) type Pipe = pipe::Pipe<Py<PyAny>>;

/// Who takes what a handler writes.
pub(crate) trait Outlet: Send + Sync {
    /// What stands between.
    fn pipe(&self) -> &Pipe;

    /// Something was written, or the end was. With the GIL, on the handler's thread: it must not block.
    fn written(&self);
}

/// What a handler may do where there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Wait: it has a thread for itself.
    Block,
    /// Await.
    Await,
    /// Neither: others need the thread that it runs on.
    Never,
}

/// A response that is being written.
#[pyclass(frozen, module = "nylon")]
pub(crate) struct ResponseStream {
    lease: Arc<Lease>,
    outlet: Arc<dyn Outlet>,
    manner: Manner,
}

impl ResponseStream {
    pub(super) fn new(lease: Arc<Lease>, outlet: Arc<dyn Outlet>, manner: Manner) -> ResponseStream {
        ResponseStream { lease, outlet, manner }
    }

    fn refuse(&self, py: Python<'_>, why: Unwritten) -> PyErr {
        match why {
            Unwritten::Closed(why) => ErrorClass::StreamClosed.error(py, why),
            Unwritten::Ended => {
                ErrorClass::BodyError.error(py, "stream.end() was called already: nothing follows it")
            }
            Unwritten::Waiting => ErrorClass::BodyError.error(
                py,
                "the write before this one still waits for room: `await stream.write(...)`, one at a time",
            ),
        }
    }
}

#[pymethods]
impl ResponseStream {
    /// An awaitable, which is done already where there was room, or where the handler's own thread has waited.
    fn write<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let refuse = |why| self.refuse(py, why);
        let pipe = self.outlet.pipe();
        pipe.write(text::body(data)?).map_err(refuse)?;
        self.outlet.written();
        if pipe.room().map_err(refuse)? == Room::Enough {
            return done(py, py.None());
        }
        match self.manner {
            Manner::Block => {
                py.detach(|| pipe.wait()).map_err(refuse)?;
                done(py, py.None())
            }
            Manner::Await => {
                let future = text::running_loop(py)?.call_method0(pyo3::intern!(py, "create_future"))?;
                if pipe.keep(future.clone().unbind()) {
                    return Ok(future);
                }
                pipe.room().map_err(refuse)?;
                done(py, py.None())
            }
            Manner::Never => Err(ErrorClass::BodyError.error(
                py,
                "there is no room, and an inline handler must not wait for it: leave inline off, and it has a thread \
                 or a loop to wait on",
            )),
        }
    }

    /// Never waits; the awaitable is for those who expect one.
    fn end<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pipe = self.outlet.pipe();
        match pipe.room() {
            Err(why) => Err(self.refuse(py, why)),
            Ok(Room::Wanting) => Err(self.refuse(py, Unwritten::Waiting)),
            Ok(Room::Enough) => {
                pipe.end(Ok(()));
                self.outlet.written();
                done(py, py.None())
            }
        }
    }

    /// Whether nobody takes any more of it.
    #[getter]
    fn closed(&self) -> bool {
        self.outlet.pipe().is_closed()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Ends the body, unless the block raised: then it is broken off.
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if kind.is_none() && !self.outlet.pipe().has_ended() {
            self.end(py)?;
        }
        Ok(())
    }

    fn __aenter__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        done(py, slf.into_any().unbind())
    }

    fn __aexit__<'py>(
        &self,
        py: Python<'py>,
        kind: &Bound<'py, PyAny>,
        error: &Bound<'py, PyAny>,
        trace: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.__exit__(py, kind, error, trace)?;
        done(py, py.None())
    }

    fn __repr__(&self) -> String {
        let pipe = self.outlet.pipe();
        let state = match (pipe.is_closed(), pipe.has_ended()) {
            (true, _) => "closed",
            (false, true) => "ended",
            (false, false) => "open",
        };
        format!("<ResponseStream: {} {state}>", self.lease.id)
    }
}

/// Resolves the future of a write that need not wait any more. On the loop's thread.
pub(crate) fn wake_writer(py: Python<'_>, pipe: &Pipe) -> PyResult<()> {
    let Some(future) = pipe.take_ticket() else { return Ok(()) };
    let future = future.bind(py);
    if future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match pipe.room() {
        Err(Unwritten::Closed(why)) => {
            let error = ErrorClass::StreamClosed.error(py, why);
            future.call_method1(pyo3::intern!(py, "set_exception"), (error.into_value(py),))?
        }
        _ => future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?,
    };
    Ok(())
}
