//! Why there is no response. The text is for the log; what the client reads is [`crate::respond`]'s.

use crate::downstream::ClientBodyError;
use std::io;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// No connection in time.
    #[error("cannot connect to {address} within {millis} ms (connect_timeout_ms)")]
    ConnectTimeout {
        /// Where.
        address: String,
        /// The limit.
        millis: u128,
    },
    /// The service broke off, or answered something that is not HTTP.
    #[error("{address} gave no valid response: {source}")]
    Broken {
        /// Where.
        address: String,
        /// How.
        source: hyper::Error,
    },
    /// What the service answered can be read in two ways, or does not answer the request.
    #[error("{address} gave no valid response: {reason}")]
    Invalid {
        /// Where.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No response head in time.
    #[error("{address} gave no response within {millis} ms (response_head_timeout_ms)")]
    ResponseTimeout {
        /// Where.
        address: String,
        /// The limit.
        millis: u128,
    },
    /// The client did not deliver its body.
    #[error(transparent)]
    ClientBody(#[from] ClientBodyError),
}
