//! Every mutation that a handler can make, on any host, is one of these. They are checked when they are made
//! (so a header with a line break never exists) and applied in one place, which cannot fail.

use crate::exchange::{Exchange, RequestBody, ResponseBody};
use crate::head::TargetPart;
use crate::phase::Phase;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

/// Header lines that handlers can bring a head to; far more than anybody reads, and few enough to be held.
pub const MAX_FIELDS: usize = 4096;

/// One mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Replaces the request's method.
    SetMethod(Method),
    /// Replaces the request's path.
    SetPath(TargetPart),
    /// Replaces or removes the request's query.
    SetQuery(Option<TargetPart>),
    /// Replaces all values of a request header.
    SetRequestHeader(HeaderName, HeaderValue),
    /// Adds a value to a request header.
    AddRequestHeader(HeaderName, HeaderValue),
    /// Removes all values of a request header.
    RemoveRequestHeader(HeaderName),
    /// Replaces the request's body.
    SetRequestBody(Bytes),
    /// Replaces the response's status.
    SetStatus(StatusCode),
    /// Replaces all values of a response header.
    SetResponseHeader(HeaderName, HeaderValue),
    /// Adds a value to a response header.
    AddResponseHeader(HeaderName, HeaderValue),
    /// Removes all values of a response header.
    RemoveResponseHeader(HeaderName),
    /// Replaces the response's body.
    SetResponseBody(Bytes),
    /// Replaces the chunk that a streaming `response_body_filter` was called for.
    SetChunk(Bytes),
}

/// Why a mutation was refused. The text is for the author of the handler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not possible in this phase.
    #[error("{what} is not possible in {phase}: {why}")]
    Phase {
        /// What was tried.
        what: &'static str,
        /// Where.
        phase: Phase,
        /// The rule.
        why: &'static str,
    },
    /// The value is not legal HTTP.
    #[error("{what} {value:?} is not valid: {why}")]
    Value {
        /// What was tried.
        what: &'static str,
        /// The offending text, shortened.
        value: String,
        /// The rule.
        why: &'static str,
    },
}

impl OpError {
    fn value(what: &'static str, value: &[u8], why: &'static str) -> OpError {
        OpError::Value { what, value: String::from_utf8_lossy(value).chars().take(80).collect(), why }
    }
}

impl Op {
    /// Checks a method (RFC 9110, 9.1): a token.
    pub fn method(text: &str) -> Result<Op, OpError> {
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) if method != Method::CONNECT => Ok(Op::SetMethod(method)),
            Ok(_) => Err(OpError::value("method", text.as_bytes(), "a gateway does not open tunnels")),
            Err(_) => Err(OpError::value("method", text.as_bytes(), "a method is a token, such as GET")),
        }
    }

    /// Checks a path.
    pub fn path(text: &str) -> Result<Op, OpError> {
        const WHY: &str =
            "a path starts with '/', is percent-encoded ASCII without '?' or '#', at most 32 KiB";
        TargetPart::path(Bytes::copy_from_slice(text.as_bytes()))
            .map(Op::SetPath)
            .ok_or_else(|| OpError::value("path", text.as_bytes(), WHY))
    }

    /// Checks a query; an empty text removes it.
    pub fn query(text: &str) -> Result<Op, OpError> {
        const WHY: &str = "a query is percent-encoded ASCII without '#', at most 32 KiB";
        if text.is_empty() {
            return Ok(Op::SetQuery(None));
        }
        TargetPart::query(Bytes::copy_from_slice(text.as_bytes()))
            .map(|query| Op::SetQuery(Some(query)))
            .ok_or_else(|| OpError::value("query", text.as_bytes(), WHY))
    }

    /// Checks a status: 200 to 599; the informational ones are the gateway's own.
    pub fn status(code: u16) -> Result<Op, OpError> {
        match StatusCode::from_u16(code) {
            Ok(status) if (200..600).contains(&code) => Ok(Op::SetStatus(status)),
            _ => Err(OpError::value("status", code.to_string().as_bytes(), "a final status is 200 to 599")),
        }
    }

    /// Checks a header name (RFC 9110, 5.1); upper case is folded.
    pub fn header_name(name: &[u8]) -> Result<HeaderName, OpError> {
        HeaderName::from_bytes(name)
            .map_err(|_| OpError::value("header name", name, "a field name is a token, such as x-user"))
    }

    /// Checks a header value (RFC 9110, 5.5): no control characters but tab; any other bytes.
    pub fn header_value(value: Bytes) -> Result<HeaderValue, OpError> {
        const WHY: &str = "a field value holds no line break, NUL or other control character";
        HeaderValue::from_maybe_shared(value.clone()).map_err(|_| OpError::value("header value", &value, WHY))
    }

    /// Whether a handler may do this in `phase`; `streaming` is true in a `response_body_filter` by chunk.
    pub fn check_phase(&self, phase: Phase, streaming: bool) -> Result<(), OpError> {
        use Op::*;
        let refuse = |what, why| Err(OpError::Phase { what, phase, why });
        match self {
            SetMethod(_)
            | SetPath(_)
            | SetQuery(_)
            | SetRequestHeader(..)
            | AddRequestHeader(..)
            | RemoveRequestHeader(_)
            | SetRequestBody(_) => match phase {
                Phase::RequestFilter => Ok(()),
                _ => refuse("changing the request", "the service has been called already"),
            },
            SetStatus(_)
            | SetResponseHeader(..)
            | AddResponseHeader(..)
            | RemoveResponseHeader(_)
            | SetResponseBody(_) => match phase {
                Phase::Logging => refuse("changing the response", "the client has it already"),
                Phase::ResponseBodyFilter if streaming => refuse(
                    "changing the response",
                    "the head is sent already; with stream=True set ctx.chunk",
                ),
                _ => Ok(()),
            },
            SetChunk(_) => match phase {
                Phase::ResponseBodyFilter if streaming => Ok(()),
                _ => refuse("setting ctx.chunk", "only a response_body_filter with stream=True has chunks"),
            },
        }
    }

    /// Whether the heads of `exchange` have room for all the header lines that `ops` may add.
    ///
    /// # Errors
    /// [`OpError::Value`] beyond [`MAX_FIELDS`] lines in one head.
    pub fn check_room(ops: &[Op], exchange: &Exchange) -> Result<(), OpError> {
        let (mut request, mut response) = (exchange.request.headers.len(), exchange.response.headers.len());
        let mut last = None;
        for op in ops {
            match op {
                Op::SetRequestHeader(name, _) | Op::AddRequestHeader(name, _) => {
                    request += 1;
                    last = Some(name);
                }
                Op::SetResponseHeader(name, _) | Op::AddResponseHeader(name, _) => {
                    response += 1;
                    last = Some(name);
                }
                _ => {}
            }
        }
        match last {
            Some(name) if request.max(response) > MAX_FIELDS => {
                Err(OpError::value("header", name.as_str().as_bytes(), "a head holds at most 4096 lines"))
            }
            _ => Ok(()),
        }
    }

    /// Applies the mutation. The only place where this happens, in every host.
    pub fn apply(self, exchange: &mut Exchange) {
        match self {
            Op::SetMethod(method) => exchange.request.method = method,
            Op::SetPath(path) => exchange.request.path = path,
            Op::SetQuery(query) => exchange.request.query = query,
            Op::SetRequestHeader(name, value) => {
                exchange.request.headers.insert(name, value);
            }
            Op::AddRequestHeader(name, value) => {
                exchange.request.headers.append(name, value);
            }
            Op::RemoveRequestHeader(name) => {
                exchange.request.headers.remove(name);
            }
            Op::SetRequestBody(body) => exchange.request_body = RequestBody::Replaced(body),
            Op::SetStatus(status) => exchange.response.status = status,
            Op::SetResponseHeader(name, value) => {
                exchange.response.headers.insert(name, value);
            }
            Op::AddResponseHeader(name, value) => {
                exchange.response.headers.append(name, value);
            }
            Op::RemoveResponseHeader(name) => {
                exchange.response.headers.remove(name);
            }
            Op::SetResponseBody(body) => exchange.response_body = ResponseBody::Replaced(body),
            Op::SetChunk(data) => {
                if let Some(chunk) = &mut exchange.chunk {
                    chunk.data = data;
                }
            }
        }
    }

    /// Whether it changes the request (else the response).
    pub fn is_request(&self) -> bool {
        use Op::*;
        matches!(
            self,
            SetMethod(_)
                | SetPath(_)
                | SetQuery(_)
                | SetRequestHeader(..)
                | AddRequestHeader(..)
                | RemoveRequestHeader(_)
                | SetRequestBody(_)
        )
    }
}
