//! What a handler fails with: its own errors, and what a context refuses.
//!
//! One opaque type that every error turns into by `?`, so that handlers need no type of their own; what the context
//! refused can be told apart by its [`ErrorKind`].

use std::error::Error as StdError;
use std::fmt;

/// What handlers and contexts return.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What an [`Error`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The handler's own.
    Handler,
    /// A second decision in one phase: the first one stays.
    Decided,
    /// Not possible in this phase.
    Phase,
    /// Not legal HTTP.
    Invalid,
    /// A body that is not there, or is not what it was taken for; also a payload or params.
    Body,
    /// The phase is over: its time-out came, the client left, or it was deferred and belongs to another thread.
    Closed,
    /// Nobody takes any more of a streamed response, or it has ended.
    StreamClosed,
}

/// Why a handler fails. Anything that is an error, or a text, turns into it by `?` or `into()`.
///
/// ```
/// fn number(text: &str) -> nylon_plugin::Result<u32> {
///     if text.is_empty() {
///         return Err("no number".into());
///     }
///     Ok(text.parse()?)
/// }
/// assert_eq!(number("x").unwrap_err().to_string(), "invalid digit found in string");
/// assert_eq!(number("").unwrap_err().to_string(), "no number");
/// ```
pub struct Error {
    kind: ErrorKind,
    source: Box<dyn StdError + Send + Sync>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error { kind, source: text.into() }
    }

    pub(crate) fn invalid(what: &str, value: &[u8], why: &str) -> Error {
        let value: String = String::from_utf8_lossy(value).chars().take(80).collect();
        Error::new(ErrorKind::Invalid, format!("{what} {value:?} is not valid: {why}"))
    }

    /// What it is about.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error behind it, if it is of this type.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.source.downcast_ref()
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Error {
    fn from(error: E) -> Error {
        Error::new(ErrorKind::Handler, error)
    }
}

/// The error and what caused it, as it stands in the gateway's log.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.kind)
    }
}

/// What a handler may return: nothing, or a [`Result`].
pub trait Outcome: sealed::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result;
}

impl Outcome for () {
    fn into_result(self) -> Result {
        Ok(())
    }
}

impl Outcome for Result {
    fn into_result(self) -> Result {
        self
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for super::Result {}
}
