//! `ctx` itself: payload, state, decision, and the way to request and response.

use super::lease::{Labels, Lease};
use super::request::{Request, params};
use super::response::Response;
use crate::errors::ErrorClass;
use crate::text;
use nylon_core::{Chunk, Decision, Op};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use std::sync::Arc;

/// The most that `ctx.state` may take, as MessagePack.
const MAX_STATE: usize = 64 * 1024;

/// What a handler gets.
#[pyclass(frozen, module = "nylon")]
pub(crate) struct Context {
    pub(crate) lease: Arc<Lease>,
    payload: PyOnceLock<Py<PyAny>>,
    state: PyOnceLock<Py<PyDict>>,
}

impl Context {
    pub(crate) fn new(lease: Arc<Lease>) -> Context {
        Context { lease, payload: PyOnceLock::new(), state: PyOnceLock::new() }
    }

    /// Writes the state back where the handler used it and changed it.
    pub(crate) fn keep_state(&self, py: Python<'_>) -> PyResult<()> {
        let Some(state) = self.state.get(py) else { return Ok(()) };
        let cannot = |why: String| ErrorClass::StateError.error(py, why);
        let encoded = text::to_msgpack(state.bind(py)).map_err(|error| {
            cannot(format!(
                "ctx.state cannot travel between phases: {} (it holds None, bool, int, float, str, bytes, list and \
                 dict only; keep anything else in a closure of the entry's setup function)",
                error.value(py)
            ))
        })?;
        if encoded.len() > MAX_STATE {
            return Err(cannot(format!(
                "ctx.state takes {} bytes as MessagePack, and {MAX_STATE} is the most: keep large things in a \
                 closure of the entry's setup function, or in a store of their own",
                encoded.len()
            )));
        }
        let unchanged = self.lease.read(py, |context| {
            let before = context.state();
            *before == encoded || (before.is_empty() && encoded.as_ref() == [0x80])
        })?;
        if unchanged { Ok(()) } else { self.lease.set_state(py, encoded) }
    }

    fn chunk_or_refuse(&self, py: Python<'_>) -> PyResult<Chunk> {
        self.lease.read(py, |context| context.exchange().chunk.clone())?.ok_or_else(|| {
            ErrorClass::PhaseError.error(
                py,
                "there is no chunk here: only a response_body_filter registered with stream=True has chunks",
            )
        })
    }
}

#[pymethods]
impl Context {
    #[getter]
    fn request(&self, py: Python<'_>) -> PyResult<Request> {
        self.lease.read(py, |_| Request { lease: self.lease.clone() })
    }

    #[getter]
    fn response(&self, py: Python<'_>) -> PyResult<Response> {
        self.lease.read(py, |_| Response { lease: self.lease.clone() })
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.lease.read(py, |context| context.call().payload.clone())?;
        let payload = self.payload.get_or_try_init(py, || match bytes.is_empty() {
            true => Ok(py.None()),
            false => text::from_msgpack(py, &bytes).map(Bound::unbind),
        })?;
        Ok(payload.bind(py).clone())
    }

    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let bytes = self.lease.read(py, |context| context.state().clone())?;
        let state = self.state.get_or_try_init(py, || -> PyResult<_> {
            Ok(match bytes.is_empty() {
                true => PyDict::new(py).unbind(),
                false => text::from_msgpack(py, &bytes)?.cast_into::<PyDict>()?.unbind(),
            })
        })?;
        Ok(state.bind(py).clone())
    }

    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        params(&self.lease, py)
    }

    #[getter]
    fn request_id(&self, py: Python<'_>) -> PyResult<String> {
        self.lease.read(py, |context| context.exchange().facts.id.to_string())
    }

    #[getter]
    fn attempt(&self, py: Python<'_>) -> PyResult<u32> {
        self.lease.read(py, |context| context.call().attempt)
    }

    #[getter]
    fn phase(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.lease.read(py, |context| context.call().phase.name())
    }

    #[getter]
    fn logger<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let labels = &self.lease.labels;
        LOGGER.import(py, "nylon.logs", "context_logger")?.call1((
            labels.plugin.as_str(),
            labels.entry.as_str(),
            self.request_id(py)?,
        ))
    }

    #[getter]
    fn chunk<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.chunk_or_refuse(py)?.data))
    }

    #[setter]
    fn set_chunk(&self, chunk: &Bound<'_, PyAny>) -> PyResult<()> {
        self.lease.write(chunk.py(), Ok(Op::SetChunk(text::body(chunk)?)))
    }

    #[getter]
    fn end_of_stream(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.chunk_or_refuse(py)?.end_of_stream)
    }

    fn next(&self, py: Python<'_>) -> PyResult<()> {
        self.lease.decide(py, Decision::Next)
    }

    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.lease.decide(py, Decision::End)
    }

    fn __repr__(&self) -> String {
        let Labels { plugin, entry } = &*self.lease.labels;
        let closed = if self.lease.is_closed() { ", closed" } else { "" };
        format!("<Context: {plugin}.{entry} {} {}{closed}>", self.lease.phase, self.lease.id)
    }
}
