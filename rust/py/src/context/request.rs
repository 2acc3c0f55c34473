//! What a handler sees of the request.

use super::done::done;
use super::headers::{Headers, Side};
use super::lease::Lease;
use crate::errors::ErrorClass;
use crate::text;
use bytes::Bytes;
use http::header::COOKIE;
use nylon_core::{Op, RequestBody, TargetPart};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// The request of an exchange.
#[pyclass(frozen, module = "nylon")]
pub(crate) struct Request {
    pub(super) lease: Arc<Lease>,
}

/// The pattern's parameters as a dict of its own.
pub(super) fn params<'py>(lease: &Lease, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let params = lease.read(py, |context| context.exchange().facts.params.clone())?;
    let dict = PyDict::new(py);
    for (name, value) in params.iter() {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

impl Request {
    /// The body, where it was read before or set by a handler.
    fn present_body(&self, py: Python<'_>) -> PyResult<Option<Bytes>> {
        self.lease.read(py, |context| context.exchange().request_body.bytes().cloned())
    }

    fn body_bytes(&self, py: Python<'_>) -> PyResult<Bytes> {
        self.present_body(py)?.ok_or_else(|| {
            ErrorClass::BodyError.error(
                py,
                "the request body has not been read: register the handler with body=True, \
                 or `await ctx.request.read()` in an async def handler",
            )
        })
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.lease.read(py, |context| PyString::new(py, context.exchange().request.method.as_str()))
    }

    #[setter]
    fn set_method(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        self.lease.write(py, Op::method(method))
    }

    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        self.lease.read(py, |context| context.exchange().url())
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.lease.read(py, |context| PyString::new(py, context.exchange().request.path.as_str()))
    }

    #[setter]
    fn set_path(&self, py: Python<'_>, path: &str) -> PyResult<()> {
        self.lease.write(py, Op::path(path))
    }

    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.lease.read(py, |context| {
            let query = context.exchange().request.query.as_ref();
            PyString::new(py, query.map_or("", TargetPart::as_str))
        })
    }

    #[setter]
    fn set_query(&self, py: Python<'_>, query: &str) -> PyResult<()> {
        self.lease.write(py, Op::query(query))
    }

    #[getter]
    fn query_params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let query = self.lease.read(py, |context| context.exchange().request.query.clone())?;
        text::parse_query(py, query.as_ref().map_or("", TargetPart::as_str))
    }

    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        params(&self.lease, py)
    }

    #[getter]
    fn host<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.lease.read(py, |context| PyString::new(py, context.exchange().facts.host.as_str()))
    }

    #[getter]
    fn scheme(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.lease.read(py, |context| context.exchange().facts.scheme.name())
    }

    #[getter]
    fn http_version(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.lease.read(py, |context| context.exchange().request.version_name())
    }

    #[getter]
    fn client_ip(&self, py: Python<'_>) -> PyResult<String> {
        self.lease.read(py, |context| context.exchange().facts.client_ip.to_string())
    }

    #[getter]
    fn timestamp(&self, py: Python<'_>) -> PyResult<f64> {
        let received_at = self.lease.read(py, |context| context.exchange().facts.received_at)?;
        Ok(received_at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()))
    }

    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.lease.read(py, |context| context.exchange().request_bytes())
    }

    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Headers> {
        self.lease.read(py, |_| Headers::new(self.lease.clone(), Side::Request))
    }

    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let lines = self.lease.read(py, |context| {
            let values = context.exchange().request.headers.get_all(COOKIE);
            values.iter().cloned().collect::<Vec<_>>()
        })?;
        let cookies = PyDict::new(py);
        for pair in lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')) {
            let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
            let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
            let name = text::to_str(py, name)?;
            if !cookies.contains(&name)? {
                cookies.set_item(name, text::to_str(py, value)?)?;
            }
        }
        Ok(cookies)
    }

    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.body_bytes(py)?))
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        text::from_json(py, &self.body_bytes(py)?)
    }

    /// An asyncio future: it has its result already where the body is here, so that awaiting costs no turn.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(body) = self.present_body(py)? {
            return done(py, PyBytes::new(py, &body).into_any().unbind());
        }
        let future = text::running_loop(py)
            .and_then(|event_loop| event_loop.call_method0(pyo3::intern!(py, "create_future")))
            .map_err(|_| {
                ErrorClass::BodyError.error(
                    py,
                    "the request body can be awaited in an async def handler that is not inline; \
                     elsewhere register the handler with body=True and call ctx.request.body()",
                )
            })?;
        if self.lease.add_reader(future.clone().unbind())
            && let Err(why) = self.lease.owner.body_wanted()
        {
            self.lease.take_readers();
            return Err(ErrorClass::BodyError.error(py, why));
        }
        Ok(future)
    }

    fn set_body<'py>(slf: Bound<'py, Self>, body: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        slf.get().lease.write(slf.py(), Ok(Op::SetRequestBody(text::body(body)?)))?;
        Ok(slf)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let head = self.lease.read(py, |context| {
            let request = &context.exchange().request;
            format!("<Request: {} {}>", request.method, request.path.as_str())
        });
        head.unwrap_or_else(|_| "<Request: closed>".to_owned())
    }
}

/// Gives the body, or the reason why there is none, to the futures that `read()` made. On the loop's thread.
pub(crate) fn wake_readers(py: Python<'_>, lease: &Lease) -> PyResult<()> {
    let body = lease.read(py, |context| match &context.exchange().request_body {
        RequestBody::Unread => None,
        RequestBody::Read(bytes) | RequestBody::Replaced(bytes) => Some(bytes.clone()),
    });
    for future in lease.take_readers() {
        let future = future.bind(py);
        if future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
            continue;
        }
        match &body {
            Ok(Some(body)) => future.call_method1("set_result", (PyBytes::new(py, body),))?,
            Ok(None) => {
                let why =
                    lease.body_failure().map_or_else(|| "the body is gone".to_owned(), |f| f.to_string());
                let error = ErrorClass::BodyError.error(py, why);
                future.call_method1("set_exception", (error.into_value(py),))?
            }
            Err(_) => future.call_method0("cancel")?,
        };
    }
    Ok(())
}
