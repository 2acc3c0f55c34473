//! `ctx` itself: payload, state, decision, and the way to request and response.

use super::lease::{Labels, Lease};
use super::request::{Request, params};
use super::response::Response;
use super::state;
use crate::errors::ErrorClass;
use crate::text;
use nylon_core::{Chunk, Decision, Op};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use std::sync::Arc;

/// What a handler gets.
#[pyclass(frozen, module = "nylon")]
pub(crate) struct Context {
    pub(crate) lease: Arc<Lease>,
    payload: PyOnceLock<Py<PyAny>>,
}

impl Context {
    pub(crate) fn new(lease: Arc<Lease>) -> Context {
        Context { lease, payload: PyOnceLock::new() }
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
        state::of(&self.lease, py)
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
