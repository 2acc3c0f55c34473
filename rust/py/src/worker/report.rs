//! What the worker's Rust half writes to Python's `logging`, under `nylon.worker`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

fn log(py: Python<'_>, level: &str, text: &str, error: Option<&PyErr>) -> PyResult<()> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let logger = LOGGER.get_or_try_init(py, || -> PyResult<_> {
        Ok(py.import("logging")?.call_method1("getLogger", ("nylon.worker",))?.unbind())
    })?;
    let keywords = pyo3::types::PyDict::new(py);
    if let Some(error) = error {
        keywords.set_item("exc_info", error.value(py))?;
    }
    logger.bind(py).call_method(level, ("%s", text), Some(&keywords)).map(drop)
}

fn write(py: Python<'_>, level: &str, text: &str, error: Option<&PyErr>) {
    if let Err(unlogged) = log(py, level, text, error) {
        tracing::error!("{text} (and logging that failed: {unlogged})");
    }
}

/// Something of ours went wrong.
pub(crate) fn error(py: Python<'_>, text: &str, error: &PyErr) {
    write(py, "error", text, Some(error));
}

/// Something went wrong that is no exception.
pub(crate) fn failure(py: Python<'_>, text: &str) {
    write(py, "error", text, None);
}

/// A peer did something wrong.
pub(crate) fn warning(py: Python<'_>, text: &str) {
    write(py, "warning", text, None);
}
