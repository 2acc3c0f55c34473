//! The response body before any filter: a service's, or one that a handler writes.

use crate::files::FileBody;
use crate::plugin::ResponseStream;
use crate::respond::{self, ErrorAnswer};
use crate::upstream::UpstreamBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use nylon_core::RequestId;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of a response, streaming.
pub(super) enum ServiceBody {
    /// An upstream's own.
    Upstream(UpstreamBody),
    /// What a handler writes.
    Handler(HandlerBody),
    /// A file's.
    File(FileBody),
}

/// A body that ended early.
#[derive(Debug)]
pub(super) struct Broken {
    /// For the log.
    pub(super) text: String,
    /// What the client gets where the head is not sent yet.
    pub(super) answer: ErrorAnswer,
}

/// What a handler writes, as a body.
pub(super) struct HandlerBody {
    /// `None` once it has ended.
    stream: Option<Box<dyn ResponseStream>>,
    /// Whose it is, for the log.
    writer: String,
    id: RequestId,
}

impl HandlerBody {
    pub(super) fn new(stream: Box<dyn ResponseStream>, writer: String, id: RequestId) -> HandlerBody {
        HandlerBody { stream: Some(stream), writer, id }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let next = ready!(stream.poll_next(cx));
        if !matches!(next, Some(Ok(_))) {
            self.stream = None;
        }
        Poll::Ready(next.map(|result| {
            result.map_err(|failure| {
                tracing::warn!(
                    request_id = %self.id,
                    entry = %self.writer,
                    kind = failure.kind.name(),
                    "the stream of a response was broken off: {}", failure.message
                );
                let text = format!("the stream of {}: {failure}", self.writer);
                Broken { text, answer: respond::plugin_failure(failure.kind) }
            })
        }))
    }
}

impl ServiceBody {
    /// Whether a handler writes it: then there is a body only where one may be sent.
    pub(super) fn is_handlers(&self) -> bool {
        matches!(self, ServiceBody::Handler(_))
    }
}

impl Body for ServiceBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            ServiceBody::Upstream(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| Broken { text: error.to_string(), answer: respond::UPSTREAM_BROKE }),
            ServiceBody::Handler(body) => body.poll(cx).map_ok(Frame::data),
            ServiceBody::File(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| Broken { text: error.to_string(), answer: respond::FILE_BROKE }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ServiceBody::Upstream(body) => body.is_end_stream(),
            ServiceBody::Handler(body) => body.stream.is_none(),
            ServiceBody::File(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ServiceBody::Upstream(body) => body.size_hint(),
            ServiceBody::Handler(_) => SizeHint::default(),
            ServiceBody::File(body) => body.size_hint(),
        }
    }
}
