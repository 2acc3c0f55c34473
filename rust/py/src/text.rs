//! Bytes and Python strings, both ways, without loss.
//!
//! Header values are bytes (RFC 9110, 5.5) and Python people want `str`: UTF-8 with surrogateescape, so that
//! whatever a client sent comes out again as it was. MessagePack and JSON go through the libraries' own
//! functions, looked up once.

use crate::errors::ErrorClass;
use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};

/// Header bytes as a string.
pub(crate) fn to_str<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => {
            let text = PyBytes::new(py, bytes)
                .call_method1(pyo3::intern!(py, "decode"), ("utf-8", "surrogateescape"))?;
            Ok(text.cast_into()?)
        }
    }
}

/// A string as header bytes.
pub(crate) fn to_bytes(text: &Bound<'_, PyString>) -> PyResult<Bytes> {
    if let Ok(plain) = text.to_str() {
        return Ok(Bytes::copy_from_slice(plain.as_bytes()));
    }
    let encoded = text.call_method1(pyo3::intern!(text.py(), "encode"), ("utf-8", "surrogateescape"));
    match encoded {
        Ok(bytes) => Ok(Bytes::copy_from_slice(bytes.cast::<PyBytes>()?.as_bytes())),
        Err(error) => Err(ErrorClass::InvalidValueError.error(text.py(), error.to_string())),
    }
}

/// A body or a chunk: `bytes`, `bytearray`, `memoryview`, or a string as UTF-8.
pub(crate) fn body(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return to_bytes(text);
    }
    match pyo3::buffer::PyBuffer::<u8>::get(value) {
        Ok(buffer) => Ok(Bytes::from(buffer.to_vec(value.py())?)),
        Err(_) => {
            let found = value.get_type().name()?;
            Err(PyTypeError::new_err(format!("a body is bytes or str, not {found}")))
        }
    }
}

/// Looks up `module.name` once and calls it with its keyword arguments bound.
fn bound<'py>(
    py: Python<'py>,
    place: &'py PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
    keywords: &[(&str, &str)],
    flags: &[(&str, bool)],
) -> PyResult<&'py Bound<'py, PyAny>> {
    let found = place.get_or_try_init(py, || -> PyResult<_> {
        let function = py.import(module)?.getattr(name)?;
        let arguments = PyDict::new(py);
        keywords.iter().try_for_each(|(key, value)| arguments.set_item(key, value))?;
        flags.iter().try_for_each(|(key, value)| arguments.set_item(key, value))?;
        if name == "dumps" {
            arguments.set_item("separators", (",", ":"))?;
        }
        let partial = py.import("functools")?.getattr("partial")?;
        Ok(partial.call((function,), Some(&arguments))?.unbind())
    })?;
    Ok(found.bind(py))
}

/// Decodes MessagePack: a payload or a state.
pub(crate) fn from_msgpack<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static UNPACK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let flags = [("strict_map_key", false), ("raw", false)];
    let unpack = bound(py, &UNPACK, "msgpack", "unpackb", &[("unicode_errors", "surrogateescape")], &flags)?;
    unpack.call1((PyBytes::new(py, bytes),))
}

/// Encodes a state as MessagePack.
pub(crate) fn to_msgpack(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    static PACK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let pack = bound(value.py(), &PACK, "msgpack", "packb", &[("unicode_errors", "surrogateescape")], &[])?;
    Ok(Bytes::copy_from_slice(pack.call1((value,))?.cast::<PyBytes>()?.as_bytes()))
}

/// Decodes JSON; an error is `json.JSONDecodeError`, a `ValueError`.
pub(crate) fn from_json<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    bound(py, &LOADS, "json", "loads", &[], &[])?.call1((PyBytes::new(py, bytes),))
}

/// Encodes JSON, compact, non-ASCII characters as they are.
pub(crate) fn to_json(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text =
        bound(value.py(), &DUMPS, "json", "dumps", &[], &[("ensure_ascii", false)])?.call1((value,))?;
    to_bytes(text.cast::<PyString>()?)
}

/// Parses a query: each name with all its values, blank ones kept.
pub(crate) fn parse_query<'py>(py: Python<'py>, query: &str) -> PyResult<Bound<'py, PyAny>> {
    static PARSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    bound(py, &PARSE, "urllib.parse", "parse_qs", &[], &[("keep_blank_values", true)])?.call1((query,))
}

/// Percent-encodes what may not stand in a URL; what is encoded already stays.
pub(crate) fn quote_url(url: &Bound<'_, PyString>) -> PyResult<Bytes> {
    static QUOTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let safe = [("safe", "/:?#[]@!$&'()*+,;=%-._~")];
    let text = bound(url.py(), &QUOTE, "urllib.parse", "quote", &safe, &[])?.call1((url,))?;
    to_bytes(text.cast::<PyString>()?)
}

/// The event loop of this thread, where one runs.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "get_running_loop")?.call0()
}
