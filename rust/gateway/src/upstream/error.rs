//! Why there is no response. `answer` is for the client, the text for the log.

use crate::downstream::ClientBodyError;
use http::StatusCode;
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
    #[error("cannot connect to {address} within {millis} ms (upstream_connect_timeout_ms)")]
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
    /// No response head in time.
    #[error("{address} gave no response within {millis} ms (upstream_response_timeout_ms)")]
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

impl ForwardError {
    /// Status and text for the client.
    pub fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            ForwardError::Connect { .. } => (StatusCode::BAD_GATEWAY, "the upstream cannot be reached"),
            ForwardError::ConnectTimeout { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "the upstream cannot be reached")
            }
            ForwardError::Broken { .. } => (StatusCode::BAD_GATEWAY, "the upstream gave no valid response"),
            ForwardError::ResponseTimeout { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "the upstream took too long")
            }
            ForwardError::ClientBody(ClientBodyError::TooLarge) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body too large")
            }
            ForwardError::ClientBody(ClientBodyError::TimedOut) => {
                (StatusCode::REQUEST_TIMEOUT, "the body took too long")
            }
            ForwardError::ClientBody(ClientBodyError::Broken(_)) => {
                (StatusCode::BAD_REQUEST, "body could not be read")
            }
        }
    }
}
