//! An exchange is owned by the gateway's task for it and lent, as one box, to the handler that runs: it moves
//! in and out by pointer and is never copied.

use crate::context::Chunk;
use crate::head::{RequestFacts, RequestHead, ResponseHead, TargetPart, declared_length};
use crate::phase::Phase;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What is known of the request's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequestBody {
    /// Still on the connection: nobody has asked for it.
    #[default]
    Unread,
    /// Read whole, unchanged; it is forwarded as it is.
    Read(Bytes),
    /// Replaced by a handler; this goes to the service instead.
    Replaced(Bytes),
}

impl RequestBody {
    /// The bytes, where they are here.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            RequestBody::Unread => None,
            RequestBody::Read(bytes) | RequestBody::Replaced(bytes) => Some(bytes),
        }
    }
}

/// What is known of the response's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResponseBody {
    /// The service's own, streaming past; empty where there is no service's response.
    #[default]
    Streaming,
    /// The service's own, read whole for `response_body_filter`.
    Read(Bytes),
    /// Set by a handler.
    Replaced(Bytes),
}

impl ResponseBody {
    /// The bytes, where they are here.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            ResponseBody::Streaming => None,
            ResponseBody::Read(bytes) | ResponseBody::Replaced(bytes) => Some(bytes),
        }
    }
}

/// What the client got, known in `logging`.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Body bytes that left the gateway.
    pub bytes: u64,
    /// From the complete request head to the last byte.
    pub duration: Option<Duration>,
    /// Why the exchange failed, in words for the log.
    pub error: Option<Arc<str>>,
}

/// One request and its response.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What never changes.
    pub facts: RequestFacts,
    /// What goes to the service.
    pub request: RequestHead,
    /// The request's body.
    pub request_body: RequestBody,
    /// What goes to the client. In `request_filter` it is a draft that only `end` sends.
    pub response: ResponseHead,
    /// The response's body.
    pub response_body: ResponseBody,
    /// The chunk that a streaming `response_body_filter` is called for.
    pub chunk: Option<Chunk>,
    /// What the client got.
    pub sent: Sent,
}

impl Exchange {
    /// An exchange whose service has not answered yet.
    pub fn new(facts: RequestFacts, request: RequestHead) -> Exchange {
        Exchange {
            facts,
            request,
            request_body: RequestBody::Unread,
            response: ResponseHead::default(),
            response_body: ResponseBody::Streaming,
            chunk: None,
            sent: Sent::default(),
        }
    }

    /// The request's URL: scheme, host, path and query.
    pub fn url(&self) -> String {
        let (facts, request) = (&self.facts, &self.request);
        let query = request.query.as_ref().map(TargetPart::as_str);
        let (mark, query) = query.map_or(("", ""), |query| ("?", query));
        format!("{}://{}{}{mark}{query}", facts.scheme.name(), facts.host, request.path.as_str())
    }

    /// Bytes of the request's body: counted where it is here, else as announced.
    pub fn request_bytes(&self) -> u64 {
        match self.request_body.bytes() {
            Some(body) => body.len() as u64,
            None => declared_length(&self.request.headers).unwrap_or(0),
        }
    }

    /// Bytes of the response's body: what was sent once it is, else counted where it is here, else as announced.
    pub fn response_bytes(&self, phase: Phase) -> u64 {
        match (phase, self.response_body.bytes()) {
            (Phase::Logging, _) => self.sent.bytes,
            (_, Some(body)) => body.len() as u64,
            (_, None) => declared_length(&self.response.headers).unwrap_or(0),
        }
    }
}
