//! Header fields as a Python mapping.
//!
//! Names are case-insensitive and come out in lower case; values are `str` (see `text.rs`). A repeated field
//! reads as one value joined per RFC 9110, 5.3, which is what most handlers mean; `get_all` gives each line.

use super::lease::Lease;
use crate::errors::refused;
use crate::text;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use nylon_core::{Op, OpError, joined};
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyString, PyTuple};
use std::sync::Arc;

/// Which of the two heads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// The fields of a request or a response.
#[pyclass(frozen, mapping, module = "nylon")]
pub(crate) struct Headers {
    lease: Arc<Lease>,
    side: Side,
}

impl Headers {
    pub(crate) fn new(lease: Arc<Lease>, side: Side) -> Headers {
        Headers { lease, side }
    }

    fn look<R>(&self, py: Python<'_>, look: impl FnOnce(&HeaderMap) -> R) -> PyResult<R> {
        self.lease.read(py, |context| match self.side {
            Side::Request => look(&context.exchange().request.headers),
            Side::Response => look(&context.exchange().response.headers),
        })
    }

    fn find<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        // One value is the rule: it becomes a string without a copy between.
        let found = self.look(py, |headers| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(one), None) => match std::str::from_utf8(one.as_bytes()) {
                    Ok(plain) => Ok(Some(PyString::new(py, plain))),
                    Err(_) => Err(Bytes::copy_from_slice(one.as_bytes())),
                },
                (Some(_), Some(_)) => {
                    let name = HeaderName::from_bytes(name.as_bytes()).ok();
                    Err(name
                        .and_then(|name| joined(headers, &name, Bytes::copy_from_slice))
                        .unwrap_or_default())
                }
            }
        })?;
        match found {
            Ok(text) => Ok(text),
            Err(bytes) => text::to_str(py, &bytes).map(Some),
        }
    }

    fn pairs<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyString>, Bound<'py, PyString>)>> {
        let pairs = self.look(py, |headers| {
            let pair =
                |name: &HeaderName| Some((name.clone(), joined(headers, name, Bytes::copy_from_slice)?));
            headers.keys().filter_map(pair).collect::<Vec<_>>()
        })?;
        let strings = |(name, value): (HeaderName, Bytes)| {
            Ok((PyString::new(py, name.as_str()), text::to_str(py, &value)?))
        };
        pairs.into_iter().map(strings).collect()
    }

    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let names = self.look(py, |headers| headers.keys().cloned().collect::<Vec<_>>())?;
        PyList::new(py, names.iter().map(HeaderName::as_str))
    }

    pub(crate) fn put(
        &self,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyString>,
        add: bool,
    ) -> PyResult<()> {
        write(&self.lease, self.side, name, value, add)
    }

    fn update_one(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key.cast()?, value.cast()?, false)
    }
}

/// Sets or adds one field.
pub(crate) fn write(
    lease: &Lease,
    side: Side,
    name: &Bound<'_, PyString>,
    value: &Bound<'_, PyString>,
    add: bool,
) -> PyResult<()> {
    let py = name.py();
    let name = header_name(name)?;
    let value = Op::header_value(text::to_bytes(value)?).map_err(|error| refused(py, error))?;
    lease.write(
        py,
        Ok(match (side, add) {
            (Side::Request, false) => Op::SetRequestHeader(name, value),
            (Side::Request, true) => Op::AddRequestHeader(name, value),
            (Side::Response, false) => Op::SetResponseHeader(name, value),
            (Side::Response, true) => Op::AddResponseHeader(name, value),
        }),
    )
}

/// Removes one field with all its values.
pub(crate) fn remove(lease: &Lease, side: Side, name: &Bound<'_, PyString>) -> PyResult<()> {
    let parsed = header_name(name)?;
    let op = match side {
        Side::Request => Op::RemoveRequestHeader(parsed),
        Side::Response => Op::RemoveResponseHeader(parsed),
    };
    lease.write(name.py(), Ok::<Op, OpError>(op))
}

fn header_name(name: &Bound<'_, PyString>) -> PyResult<HeaderName> {
    let bytes = text::to_bytes(name)?;
    Op::header_name(&bytes).map_err(|error| refused(name.py(), error))
}

#[pymethods]
impl Headers {
    fn __getitem__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyString>> {
        self.find(py, name)?.ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __setitem__(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> PyResult<()> {
        self.put(name, value, false)
    }

    fn __delitem__(&self, name: &Bound<'_, PyString>) -> PyResult<()> {
        if !self.__contains__(name.as_any())? {
            return Err(PyKeyError::new_err(name.clone().unbind()));
        }
        remove(&self.lease, self.side, name)
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = name.py();
        match name.cast::<PyString>() {
            Ok(name) => {
                let name = name.to_cow().unwrap_or_default();
                self.look(py, |headers| headers.contains_key(&*name))
            }
            Err(_) => Ok(false),
        }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.look(py, HeaderMap::keys_len)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.names(py)?.try_iter()
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let mine = PyDict::new(py);
        for (name, value) in self.pairs(py)? {
            mine.set_item(name, value)?;
        }
        match other.cast::<Headers>() {
            Ok(other) => {
                let theirs = PyDict::new(py);
                for (name, value) in other.get().pairs(py)? {
                    theirs.set_item(name, value)?;
                }
                mine.eq(theirs)
            }
            Err(_) => mine.eq(other),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        if self.lease.is_closed() {
            return Ok("<Headers: closed>".to_owned());
        }
        Ok(format!("Headers({})", self.items(py)?.repr()?))
    }

    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.find(py, name)?.map(Bound::into_any).or(default))
    }

    fn get_all<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyString>>> {
        let values = self.look(py, |headers| headers.get_all(name).iter().cloned().collect::<Vec<_>>())?;
        values.iter().map(|value| text::to_str(py, value.as_bytes())).collect()
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.names(py)
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.pairs(py)?.into_iter().map(|(_, value)| value))
    }

    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.pairs(py)?)
    }

    fn add(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> PyResult<()> {
        self.put(name, value, true)
    }

    fn setdefault<'py>(
        &self,
        name: &Bound<'py, PyString>,
        default: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyString>> {
        match self.find(name.py(), &name.to_cow().unwrap_or_default())? {
            Some(present) => Ok(present),
            None => {
                self.put(name, default, false)?;
                Ok(default.clone())
            }
        }
    }

    #[pyo3(signature = (name, /, *default))]
    fn pop<'py>(
        &self,
        name: &Bound<'py, PyString>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            return Err(PyTypeError::new_err("pop takes a name and at most one default"));
        }
        match self.find(name.py(), &name.to_cow().unwrap_or_default())? {
            Some(present) => {
                remove(&self.lease, self.side, name)?;
                Ok(present.into_any())
            }
            None if default.is_empty() => Err(PyKeyError::new_err(name.clone().unbind())),
            None => default.get_item(0),
        }
    }

    #[pyo3(signature = (other=None, /, **fields))]
    fn update(&self, other: Option<&Bound<'_, PyAny>>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        if let Some(other) = other {
            let keys = other.getattr_opt("keys")?;
            let items = if keys.is_some() { other.call_method0("items")? } else { other.clone() };
            for item in items.try_iter()? {
                let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
                self.update_one(&key, &value)?;
            }
        }
        for (key, value) in fields.into_iter().flatten() {
            self.update_one(&key, &value)?;
        }
        Ok(())
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        for name in self.names(py)? {
            remove(&self.lease, self.side, name.cast()?)?;
        }
        Ok(())
    }
}
