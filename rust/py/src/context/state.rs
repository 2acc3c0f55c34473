//! `ctx.state`: decoded for the handler that asks for it, and written back where that has changed it.

use super::lease::Lease;
use crate::errors::ErrorClass;
use crate::text;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The most that it may take, as MessagePack.
const MAX_STATE: usize = 64 * 1024;

/// The handler's own copy.
pub(super) fn of<'py>(lease: &Lease, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let bytes = lease.read(py, |context| context.state().clone())?;
    let state = lease.state.get_or_try_init(py, || -> PyResult<_> {
        Ok(match bytes.is_empty() {
            true => PyDict::new(py).unbind(),
            false => text::from_msgpack(py, &bytes)?.cast_into::<PyDict>()?.unbind(),
        })
    })?;
    Ok(state.bind(py).clone())
}

/// Writes it back where the handler used it and changed it.
pub(crate) fn keep(lease: &Lease, py: Python<'_>) -> PyResult<()> {
    let Some(state) = lease.state.get(py) else { return Ok(()) };
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
    let (unchanged, streams) = lease.read(py, |context| {
        let before = context.state();
        let unchanged = *before == encoded || (before.is_empty() && encoded.as_ref() == [0x80]);
        (unchanged, context.has_begun())
    })?;
    match (unchanged, streams) {
        (true, _) => Ok(()),
        (false, true) => Err(cannot(
            "ctx.state was changed after the stream had begun, when it had travelled on already: set it before".to_owned(),
        )),
        (false, false) => lease.set_state(py, encoded),
    }
}
