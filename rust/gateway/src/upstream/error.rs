//! Why there is no response. The text is for the log; what the client reads is [`crate::respond`]'s.

use crate::causes::with_causes;
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
    #[error("{address} gave no valid response: {}", with_causes(source))]
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
    /// The request cannot be put into the service's protocol.
    #[error("a request cannot be sent to {address}: {reason}")]
    Unsendable {
        /// Where.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The client wants to switch to a protocol that cannot be had.
    #[error("a client asked {address} for a WebSocket, which a service with `protocol: http2` cannot give")]
    NoUpgrade {
        /// Where.
        address: String,
    },
    /// No response head in time.
    #[error("{address} gave no response within {millis} ms (response_head_timeout_ms)")]
    ResponseTimeout {
        /// Where.
        address: String,
        /// The limit.
        millis: u128,
    },
    /// No endpoint is well.
    #[error("no endpoint of the service is well; in {seconds} s one may be")]
    Down {
        /// When to try again.
        seconds: u64,
    },
    /// Each endpoint has as many requests as it may have.
    #[error("each endpoint of the service has as many requests as it may have (circuit_breaker)")]
    Full {
        /// When to try again.
        seconds: u64,
    },
    /// The client did not deliver its body.
    #[error(transparent)]
    ClientBody(#[from] ClientBodyError),
}

impl ForwardError {
    /// How long the client is told to wait.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            ForwardError::Down { seconds } | ForwardError::Full { seconds } => Some(*seconds),
            _ => None,
        }
    }
}
