//! The asyncio protocol between the broker's socket and nats-py.
//!
//! The loop calls `data_received` with what arrived. Our messages are dispatched here and now, their answers
//! leave in one write at the end; all other bytes go on to nats-py's own protocol, and so does every other
//! event. Nothing may escape from here: an exception would end nats-py's read loop while it still calls itself
//! connected. So each handler has its own net (see `receive.rs`), and there is one more around all.

use super::framer::Framer;
use super::report;
use super::shared::{Shared, locked};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// One connection's protocol.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct WorkerProtocol {
    shared: Arc<Shared>,
    /// Only the loop's thread comes here; a `Mutex` because Python objects are shared by nature.
    framer: Mutex<Framer>,
    transport: Py<PyAny>,
    inner: Py<PyAny>,
    inner_data_received: Py<PyAny>,
}

impl WorkerProtocol {
    pub(crate) fn new(
        shared: Arc<Shared>,
        transport: Bound<'_, PyAny>,
        inner: Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = transport.py();
        shared.attach(transport.clone().unbind(), transport.getattr(intern!(py, "write"))?.unbind());
        Ok(WorkerProtocol {
            shared,
            framer: Mutex::default(),
            inner_data_received: inner.getattr(intern!(py, "data_received"))?.unbind(),
            transport: transport.unbind(),
            inner: inner.unbind(),
        })
    }

    /// Takes our messages out of `data`, runs them, and gives back the rest.
    fn dispatch(&self, py: Python<'_>, data: &[u8]) -> PyResult<Vec<u8>> {
        let (mut rest, mut messages) = (Vec::new(), Vec::new());
        {
            let mut framer = locked(&self.framer);
            framer.feed(data);
            while let Some(message) = framer.next(|sid| self.shared.subscription(sid).is_some(), &mut rest) {
                messages.push(message);
            }
        }
        let mut ready = Vec::new();
        for message in messages {
            if let (Some(own), false) = (self.shared.subscription(message.sid), message.is_status) {
                self.shared.receive(py, own, message.reply, &message.payload, &mut ready);
            }
        }
        if !ready.is_empty() {
            self.shared.flush(py)?;
            self.shared.run(py, ready);
        }
        Ok(rest)
    }
}

#[pymethods]
impl WorkerProtocol {
    fn connection_made(&self, py: Python<'_>, transport: Py<PyAny>) -> PyResult<()> {
        self.inner.call_method1(py, intern!(py, "connection_made"), (transport,)).map(drop)
    }

    fn data_received(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(bytes) = data.cast::<PyBytes>() else {
            // Some loops pass a bytearray or a memoryview.
            let copy = py.get_type::<PyBytes>().call1((data,))?;
            return self.data_received(py, &copy);
        };
        self.shared.beat(py);
        self.shared.begin_batch();
        let dispatched = catch_unwind(AssertUnwindSafe(|| self.dispatch(py, bytes.as_bytes())));
        self.shared.end_batch();
        let flushed = self.shared.flush(py);
        let rest = match dispatched {
            Ok(Ok(rest)) => rest,
            Ok(Err(error)) => {
                report::error(py, "writing to the broker failed: reconnecting", &error);
                return self.transport.call_method0(py, intern!(py, "abort")).map(drop);
            }
            Err(_) => {
                // The stream may have been left in the middle of a message: only a new one makes sense again.
                report::failure(py, "a panic in the worker's byte path: reconnecting");
                return self.transport.call_method0(py, intern!(py, "abort")).map(drop);
            }
        };
        if let Err(error) = flushed {
            report::error(py, "writing to the broker failed", &error);
        }
        match rest.is_empty() {
            true => Ok(()),
            // What nats-py makes of its own bytes is its own business, errors included.
            false => self.inner_data_received.call1(py, (PyBytes::new(py, &rest),)).map(drop),
        }
    }

    fn eof_received(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.inner.call_method0(py, intern!(py, "eof_received"))
    }

    fn connection_lost(&self, py: Python<'_>, error: Py<PyAny>) -> PyResult<()> {
        self.shared.detach(&self.transport);
        self.inner.call_method1(py, intern!(py, "connection_lost"), (error,)).map(drop)
    }

    fn pause_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.pause(true);
        self.inner.call_method0(py, intern!(py, "pause_writing")).map(drop)
    }

    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.pause(false);
        self.inner.call_method0(py, intern!(py, "resume_writing"))?;
        self.shared.flush(py)
    }

    /// asyncio's own streams look for attributes of their protocol: the inner one answers.
    fn __getattr__(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
        self.inner.getattr(py, name)
    }
}
