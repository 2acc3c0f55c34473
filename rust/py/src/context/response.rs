//! What a handler sees of the response, and what it makes of it.

use super::headers::{Headers, Side, remove, write};
use super::lease::Lease;
use super::state;
use super::stream::ResponseStream;
use crate::errors::ErrorClass;
use crate::text;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, LOCATION};
use nylon_core::{Op, Phase, ResponseBody};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::sync::Arc;

/// The response of an exchange: a draft in `request_filter`, the service's own later.
#[pyclass(frozen, module = "nylon")]
pub(crate) struct Response {
    pub(super) lease: Arc<Lease>,
}

impl Response {
    /// Replaces the body. The content type follows it unless this handler has chosen one itself.
    fn replace(&self, py: Python<'_>, body: Bytes, content_type: Option<&'static str>) -> PyResult<()> {
        self.lease.write(py, Ok(Op::SetResponseBody(body)))?;
        if let Some(content_type) = content_type
            && !self.lease.has_content_type()
        {
            let op = Op::SetResponseHeader(CONTENT_TYPE, HeaderValue::from_static(content_type));
            self.lease.write_quietly(py, op)?;
        }
        Ok(())
    }
}

#[pymethods]
impl Response {
    #[getter]
    fn status(&self, py: Python<'_>) -> PyResult<u16> {
        self.lease.read(py, |context| context.exchange().response.status.as_u16())
    }

    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Headers> {
        self.lease.read(py, |_| Headers::new(self.lease.clone(), Side::Response))
    }

    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.lease.read(py, |context| context.exchange().response_bytes(context.call().phase))
    }

    #[getter]
    fn duration(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.lease.read(py, |context| context.exchange().sent.duration.map(|duration| duration.as_secs_f64()))
    }

    #[getter]
    fn error(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.lease.read(py, |context| context.exchange().sent.error.as_deref().map(str::to_owned))
    }

    fn set_status<'py>(slf: Bound<'py, Self>, status: u16) -> PyResult<Bound<'py, Self>> {
        slf.get().lease.write(slf.py(), Op::status(status))?;
        Ok(slf)
    }

    fn set_header<'py>(
        slf: Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, Self>> {
        write(&slf.get().lease, Side::Response, name, value, false)?;
        Ok(slf)
    }

    fn add_header<'py>(
        slf: Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, Self>> {
        write(&slf.get().lease, Side::Response, name, value, true)?;
        Ok(slf)
    }

    fn remove_header<'py>(slf: Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, Self>> {
        remove(&slf.get().lease, Side::Response, name)?;
        Ok(slf)
    }

    fn body_raw<'py>(slf: Bound<'py, Self>, body: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        slf.get().replace(slf.py(), text::body(body)?, None)?;
        Ok(slf)
    }

    fn body_text<'py>(slf: Bound<'py, Self>, body: &Bound<'py, PyString>) -> PyResult<Bound<'py, Self>> {
        slf.get().replace(slf.py(), text::to_bytes(body)?, Some("text/plain; charset=utf-8"))?;
        Ok(slf)
    }

    fn body_html<'py>(slf: Bound<'py, Self>, body: &Bound<'py, PyString>) -> PyResult<Bound<'py, Self>> {
        slf.get().replace(slf.py(), text::to_bytes(body)?, Some("text/html; charset=utf-8"))?;
        Ok(slf)
    }

    fn body_json<'py>(slf: Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        slf.get().replace(slf.py(), text::to_json(value)?, Some("application/json"))?;
        Ok(slf)
    }

    #[pyo3(signature = (url, code=302))]
    fn redirect<'py>(
        slf: Bound<'py, Self>,
        url: &Bound<'py, PyString>,
        code: u16,
    ) -> PyResult<Bound<'py, Self>> {
        let (py, this) = (slf.py(), slf.get());
        if !matches!(code, 301 | 302 | 303 | 307 | 308) {
            let why = format!("redirect code {code} is not valid: use 301, 302, 303, 307 or 308");
            return Err(ErrorClass::InvalidValueError.error(py, why));
        }
        let location = Op::header_value(text::quote_url(url)?);
        this.lease.write(py, location.map(|value| Op::SetResponseHeader(LOCATION, value)))?;
        this.lease.write(py, Op::status(code))?;
        Ok(slf)
    }

    fn read_body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let (phase, body) = self
            .lease
            .read(py, |context| (context.call().phase, context.exchange().response_body.clone()))?;
        match body {
            ResponseBody::Read(bytes) | ResponseBody::Replaced(bytes) => Ok(PyBytes::new(py, &bytes)),
            ResponseBody::Streaming if phase == Phase::RequestFilter => Ok(PyBytes::new(py, b"")),
            ResponseBody::Streaming => Err(ErrorClass::BodyError.error(
                py,
                "the response body has not been read: it is whole in a response_body_filter (without stream=True)",
            )),
        }
    }

    /// Sends the head as it is now; what is written to the stream follows.
    fn stream(&self, py: Python<'_>) -> PyResult<ResponseStream> {
        state::keep(&self.lease, py)?;
        let (outlet, manner) = self.lease.begin_stream(py)?;
        Ok(ResponseStream::new(self.lease.clone(), outlet, manner))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let status = self.lease.read(py, |context| context.exchange().response.status.as_u16());
        status.map_or_else(|_| "<Response: closed>".to_owned(), |status| format!("<Response: {status}>"))
    }
}
