//! Python exceptions out of Rust.
//!
//! The classes are written in Python (`nylon/errors.py`), where people read them, subclass builtins and catch
//! them; this side raises those very classes. A test compares both lists.

use nylon_core::OpError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// Declares the classes once: the enum, the list of all, and their names.
macro_rules! classes {
    ($($name:ident),+ $(,)?) => {
        /// A class of `nylon.errors`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ErrorClass { $($name),+ }

        impl ErrorClass {
            /// All classes, in the order of the tree.
            pub(crate) const ALL: &[ErrorClass] = &[$(ErrorClass::$name),+];

            /// Its name in `nylon.errors`.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(ErrorClass::$name => stringify!($name)),+ }
            }
        }
    };
}

classes! {
    NylonError,
    ConfigError,
    PluginError,
    GatewayError,
    WorkerError,
    HandlerError,
    ContextClosed,
    DecisionError,
    PhaseError,
    InvalidValueError,
    StateError,
    BodyError,
    StreamClosed,
}

static FOUND: [PyOnceLock<Py<PyType>>; ErrorClass::ALL.len()] =
    [const { PyOnceLock::new() }; ErrorClass::ALL.len()];

impl ErrorClass {
    /// The class itself.
    pub(crate) fn class<'py>(self, py: Python<'py>) -> PyResult<&'py Bound<'py, PyType>> {
        FOUND[self as usize].import(py, "nylon.errors", self.name())
    }

    /// An exception of this class; should the class be missing, the import error says so instead.
    pub(crate) fn error(self, py: Python<'_>, message: impl Into<String>) -> PyErr {
        match self.class(py) {
            Ok(class) => PyErr::from_type(class.clone(), (message.into(),)),
            Err(missing) => missing,
        }
    }

    /// Whether `error` is of this class.
    pub(crate) fn is_of(self, py: Python<'_>, error: &PyErr) -> bool {
        self.class(py).is_ok_and(|class| error.is_instance(py, class))
    }
}

/// A refused mutation as an exception.
pub(crate) fn refused(py: Python<'_>, error: OpError) -> PyErr {
    let class = match error {
        OpError::Phase { .. } => ErrorClass::PhaseError,
        OpError::Value { .. } => ErrorClass::InvalidValueError,
    };
    class.error(py, error.to_string())
}

/// The context was used too late.
pub(crate) fn closed(py: Python<'_>) -> PyErr {
    ErrorClass::ContextClosed.error(
        py,
        "this context is closed: its phase is over or has timed out; copy what you need later before you decide",
    )
}

/// The names that the Rust side raises, for the test that compares them with `nylon.errors`.
#[pyfunction]
pub(crate) fn _error_names() -> Vec<&'static str> {
    ErrorClass::ALL.iter().map(|class| class.name()).collect()
}
