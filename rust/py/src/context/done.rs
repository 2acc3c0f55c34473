//! An awaitable that has its result already, so that awaiting it costs no turn of the loop, and needs no loop.

use pyo3::prelude::*;

#[pyclass(frozen, module = "nylon._core")]
struct Done {
    value: Py<PyAny>,
}

/// An awaitable of `value`.
pub(super) fn done(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    Ok(Bound::new(py, Done { value })?.into_any())
}

#[pymethods]
impl Done {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        Err(pyo3::exceptions::PyStopIteration::new_err((self.value.clone_ref(py),)))
    }
}
