//! From error to answer: the only place.
//!
//! The client learns a status, a short text and the request's id; what happened and where stays in the log,
//! under the same id.

use crate::downstream::ClientBodyError;
use crate::upstream::ForwardError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use nylon_core::{FailureKind, RequestId, ResponseHead};

/// An answer that the gateway makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The status.
    pub status: StatusCode,
    /// What the client reads.
    pub text: &'static str,
}

/// The head of a request did not arrive in its time.
pub const SLOW_HEAD: ErrorAnswer =
    ErrorAnswer { status: StatusCode::REQUEST_TIMEOUT, text: "the request head took too long" };
/// No route, or no path of it.
pub const NO_ROUTE: ErrorAnswer = ErrorAnswer { status: StatusCode::NOT_FOUND, text: "no route" };
/// The path exists for other methods.
pub const OTHER_METHODS: ErrorAnswer =
    ErrorAnswer { status: StatusCode::METHOD_NOT_ALLOWED, text: "method not allowed" };
/// The route is not served over plain HTTP.
pub const TLS_ONLY: ErrorAnswer =
    ErrorAnswer { status: StatusCode::FORBIDDEN, text: "this route is served over TLS only" };
/// A route's rewrite makes of this path one that is too long, or that leads elsewhere than it seems to.
pub const REWRITE_IMPOSSIBLE: ErrorAnswer =
    ErrorAnswer { status: StatusCode::BAD_REQUEST, text: "the path cannot be rewritten" };
/// A body that a filter needs whole is over the limit.
pub const RESPONSE_TOO_LARGE: ErrorAnswer =
    ErrorAnswer { status: StatusCode::BAD_GATEWAY, text: "the upstream's response is too large" };
/// The service broke off inside a body that was being read for a filter.
pub const UPSTREAM_BROKE: ErrorAnswer =
    ErrorAnswer { status: StatusCode::BAD_GATEWAY, text: "the upstream broke off its response" };
/// Who was asked for a WebSocket answered something else, which an extended CONNECT cannot carry.
pub const NO_WEBSOCKET: ErrorAnswer =
    ErrorAnswer { status: StatusCode::NOT_IMPLEMENTED, text: "no WebSocket is spoken here" };
/// A page of a site that is not among those allowed.
pub const OTHER_ORIGIN: ErrorAnswer =
    ErrorAnswer { status: StatusCode::FORBIDDEN, text: "the origin is not allowed" };
/// A service of files has none for this path.
pub const NO_FILE: ErrorAnswer = ErrorAnswer { status: StatusCode::NOT_FOUND, text: "no such file" };
/// A file is there and cannot be read.
pub const FILE_BROKE: ErrorAnswer =
    ErrorAnswer { status: StatusCode::INTERNAL_SERVER_ERROR, text: "the file cannot be read" };
/// The task of an exchange panicked.
pub const PANICKED: ErrorAnswer =
    ErrorAnswer { status: StatusCode::INTERNAL_SERVER_ERROR, text: "internal error" };

/// What a plugin's failure is to the client, where its policy says fail.
pub fn plugin_failure(kind: FailureKind) -> ErrorAnswer {
    let (status, text) = match kind {
        FailureKind::Raised | FailureKind::Undecided | FailureKind::UnknownEntry => {
            (StatusCode::INTERNAL_SERVER_ERROR, "plugin error")
        }
        FailureKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "plugin timed out"),
        FailureKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "plugin unavailable"),
        FailureKind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "plugin overloaded"),
        FailureKind::WorkerDied => (StatusCode::BAD_GATEWAY, "plugin worker died"),
        FailureKind::Protocol => (StatusCode::BAD_GATEWAY, "invalid answer from plugin"),
        FailureKind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body too large"),
        FailureKind::BodyUnreadable => (StatusCode::BAD_REQUEST, "body could not be read"),
        FailureKind::Cancelled => (StatusCode::INTERNAL_SERVER_ERROR, "cancelled"),
    };
    ErrorAnswer { status, text }
}

/// What an upstream's failure is to the client.
pub fn upstream_failure(error: &ForwardError) -> ErrorAnswer {
    let (status, text) = match error {
        ForwardError::Connect { .. } => (StatusCode::BAD_GATEWAY, "the upstream cannot be reached"),
        ForwardError::ConnectTimeout { .. } => {
            (StatusCode::GATEWAY_TIMEOUT, "the upstream cannot be reached")
        }
        ForwardError::Broken { .. } | ForwardError::Invalid { .. } => {
            (StatusCode::BAD_GATEWAY, "the upstream gave no valid response")
        }
        ForwardError::Unsendable { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the request cannot be forwarded")
        }
        ForwardError::NoUpgrade { .. } => {
            (StatusCode::NOT_IMPLEMENTED, "the upstream cannot switch protocols")
        }
        ForwardError::ResponseTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "the upstream took too long"),
        ForwardError::Down { .. } => (StatusCode::SERVICE_UNAVAILABLE, "the upstream is down"),
        ForwardError::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, "the upstream is overloaded"),
        ForwardError::ClientBody(ClientBodyError::TooLarge) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "body too large")
        }
        ForwardError::ClientBody(ClientBodyError::TimedOut) => {
            (StatusCode::REQUEST_TIMEOUT, "the body took too long")
        }
        ForwardError::ClientBody(ClientBodyError::Broken(_)) => {
            (StatusCode::BAD_REQUEST, "body could not be read")
        }
    };
    ErrorAnswer { status, text }
}

/// Tells the client when to come again, where that is known.
pub fn retry_after(error: &ForwardError, headers: &mut HeaderMap) {
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
}

impl ErrorAnswer {
    /// Whether it says that the client did not deliver what it began: nothing more is read from there.
    fn ends_connection(self) -> bool {
        matches!(
            self.status,
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE
        )
    }

    /// Head and body of the answer.
    pub fn for_request(self, id: RequestId) -> (ResponseHead, Bytes) {
        let body = format!(
            "{{\"error\":\"{}\",\"status\":{},\"request_id\":\"{id}\"}}\n",
            self.text,
            self.status.as_u16()
        );
        let mut head = ResponseHead { status: self.status, ..ResponseHead::default() };
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.ends_connection() {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        (head, body.into())
    }
}
