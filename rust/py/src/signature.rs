//! What can be known of a function before it is called.
//!
//! Looking at the code's flags is cheap enough for each session; asking `inspect` is for the load only, where an
//! error should show the author's line.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

const GENERATOR: u32 = 0x20;
const COROUTINE: u32 = 0x80;
const ASYNC_GENERATOR: u32 = 0x200;

/// The code flags of a function, a method, a partial or an object with `__call__`; 0 for what has no code.
fn code_flags(function: &Bound<'_, PyAny>, depth: u8) -> PyResult<u32> {
    let py = function.py();
    if let Some(code) = function.getattr_opt(pyo3::intern!(py, "__code__"))? {
        return code.getattr(pyo3::intern!(py, "co_flags"))?.extract();
    }
    if depth > 8 {
        return Ok(0);
    }
    static PARTIAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if function.is_instance(PARTIAL.import(py, "functools", "partial")?)? {
        return code_flags(&function.getattr("func")?, depth + 1);
    }
    match function.getattr_opt("__call__")? {
        Some(call) if call.hasattr("__code__")? => code_flags(&call, depth + 1),
        _ => Ok(0),
    }
}

/// Whether calling it gives a coroutine. Cheap: for each session's handlers.
pub(crate) fn is_async(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(code_flags(function, 0)? & COROUTINE != 0)
}

/// Checks that something can be a handler (it takes the context and nothing else) and whether it is async.
pub(crate) fn inspect(function: &Bound<'_, PyAny>, what: &str) -> PyResult<bool> {
    let py = function.py();
    if !function.is_callable() {
        let found = function.repr()?;
        return Err(PyTypeError::new_err(format!("{what} must be a function of the context, not {found}")));
    }
    let flags = code_flags(function, 0)?;
    if flags & (GENERATOR | ASYNC_GENERATOR) != 0 {
        return Err(PyTypeError::new_err(format!("{what} is a generator: a handler does not yield")));
    }
    takes_one(function, what, "the context")?;
    let marked = py.import("inspect")?.getattr("iscoroutinefunction")?.call1((function,))?.is_truthy()?;
    Ok(flags & COROUTINE != 0 || marked)
}

/// Checks that a function can be called with one argument, where its signature is known.
fn takes_one(function: &Bound<'_, PyAny>, what: &str, argument: &str) -> PyResult<()> {
    let py = function.py();
    let Ok(signature) = py.import("inspect")?.call_method1("signature", (function,)) else { return Ok(()) };
    match signature.call_method1("bind", (py.None(),)) {
        Ok(_) => Ok(()),
        Err(error) => Err(PyTypeError::new_err(format!(
            "{what} must take one argument, {argument}: its signature is {} ({})",
            signature.str()?,
            error.value(py)
        ))),
    }
}

/// Checks that something can be a `setup` function: plain, and of one argument.
pub(crate) fn inspect_setup(setup: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    if !setup.is_callable() {
        return Err(PyTypeError::new_err(format!("{what} must be a function, not {}", setup.repr()?)));
    }
    if code_flags(setup, 0)? & (GENERATOR | COROUTINE | ASYNC_GENERATOR) != 0 {
        return Err(PyTypeError::new_err(format!("{what} must be a plain def: it only registers handlers")));
    }
    takes_one(setup, what, "the phase handler")
}
