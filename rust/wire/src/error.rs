//! One error for everything that can be wrong with a frame. The text goes to the log of whoever received it.

use crate::envelope::VERSION;
use nylon_core::OpError;

/// Why a frame was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the value does.
    #[error("the frame ends in the middle of {what}")]
    Truncated {
        /// The part that was read.
        what: &'static str,
    },
    /// Another type than the protocol says.
    #[error("{what} is not {expected}")]
    Type {
        /// The part that was read.
        what: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A part that must be there is not.
    #[error("the frame has no {what}")]
    Missing {
        /// The part.
        what: &'static str,
    },
    /// The value is of the right type, but not a legal one.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The part.
        what: &'static str,
        /// The rule.
        why: &'static str,
    },
    /// More or longer than allowed.
    #[error("{what} is over its limit of {limit}")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// The limit, in bytes or items.
        limit: usize,
    },
    /// Bytes after the frame's end.
    #[error("{0} bytes follow the end of the frame")]
    Trailing(usize),
    /// A version that never was.
    #[error("the frame is of protocol version {0}; this side speaks version {VERSION}")]
    Version(u64),
    /// Not the kind of frame that was expected here, or one that this version does not know.
    #[error("a frame of kind {found:?} was not expected here")]
    Kind {
        /// What the frame calls itself, shortened.
        found: String,
    },
    /// An operation that a handler could not have made.
    #[error(transparent)]
    Op(#[from] OpError),
}
