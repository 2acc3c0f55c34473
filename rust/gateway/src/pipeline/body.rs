//! The response body on its way to the client.
//!
//! Where no middleware looks at the body it is the service's own, untouched. A streaming filter pulls one chunk
//! at a time, so the client's pace holds the service back and memory stays bounded. Whoever ends the body (the
//! last byte, an error, the client leaving) ends the exchange: its flow goes to the logging queue from `Drop`.

use super::flow::{Flow, Verdict};
use super::logging::Owed;
use super::service_body::ServiceBody;
use crate::worker::Worker;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use nylon_core::{Chunk, Phase};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes of the largest chunk that a handler is called for.
const MAX_CHUNK: usize = 128 * 1024;

/// A body that ends early; the connection is aborted, so that the client sees it is not complete.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyAborted(String);

/// The body of every response.
pub struct OutBody {
    kind: Kind,
    /// Boxed, as the filters are: most bodies have neither, and every body is moved a few times.
    tail: Option<Box<Tail>>,
}

enum Kind {
    /// Bytes made here; `None` when they are sent.
    Full(Option<Bytes>),
    /// The same with what stands behind them.
    Trailed(Option<Bytes>, Option<Box<HeaderMap>>),
    /// The service's own.
    Service(ServiceBody),
    /// By chunk, through `response_body_filter`.
    Filtered(Box<Filtered>),
}

/// What is owed when the body is done.
struct Tail {
    worker: Rc<Worker>,
    /// Elsewhere while a filter runs.
    flow: Option<Box<Flow>>,
    bytes: u64,
    ended: bool,
    error: Option<String>,
}

struct Filtered {
    source: Option<Source>,
    filters: Vec<usize>,
    step: Option<LocalBoxFuture<'static, Step>>,
    done: bool,
}

/// What comes out of one step of a filtered body.
struct Step {
    flow: Box<Flow>,
    source: Source,
    filters: Vec<usize>,
    frame: Result<Frame<Bytes>, String>,
    last: bool,
}

/// The unfiltered body: bytes that are here already, then the rest of the service's, then its trailers.
#[derive(Default)]
pub(super) struct Source {
    pub(super) prefix: Option<Bytes>,
    pub(super) service: Option<ServiceBody>,
    /// Known only when all before them is.
    pub(super) trailers: Option<HeaderMap>,
}

impl Source {
    async fn next(&mut self) -> Result<Chunk, String> {
        if let Some(data) = self.prefix.take() {
            return Ok(Chunk { data, end_of_stream: self.service.is_none() });
        }
        let end = || Chunk { data: Bytes::new(), end_of_stream: true };
        let Some(service) = &mut self.service else { return Ok(end()) };
        match service.frame().await {
            None => Ok(end()),
            Some(Err(broken)) => Err(broken.text),
            Some(Ok(frame)) => Ok(match frame.into_data() {
                Ok(data) => Chunk { data, end_of_stream: service.is_end_stream() },
                Err(frame) => {
                    // They wait until the filters have said all that they have to say.
                    self.trailers = frame.into_trailers().ok();
                    end()
                }
            }),
        }
    }
}

impl OutBody {
    /// Bytes made here, nothing owed.
    pub fn full(bytes: Bytes) -> OutBody {
        OutBody { kind: Kind::Full(Some(bytes)), tail: None }
    }

    /// The same with trailers.
    pub(super) fn trailed(bytes: Bytes, trailers: HeaderMap) -> OutBody {
        OutBody { kind: Kind::Trailed(Some(bytes), Some(Box::new(trailers))), tail: None }
    }

    /// Whether it ends without trailers.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.kind, Kind::Full(_))
    }

    /// The service's own body, nothing owed.
    pub(super) fn service(body: ServiceBody) -> OutBody {
        OutBody { kind: Kind::Service(body), tail: None }
    }

    /// Whether a handler is still writing it.
    pub(super) fn is_handlers(&self) -> bool {
        matches!(&self.kind, Kind::Service(body) if body.is_handlers())
    }

    /// Through the streaming filters of `flow`.
    pub(super) fn filtered(flow: Box<Flow>, source: Source, filters: Vec<usize>) -> OutBody {
        let filtered = Filtered { source: Some(source), filters, step: None, done: false };
        OutBody { kind: Kind::Filtered(Box::new(filtered)), tail: None }.owing(flow)
    }

    /// Gives `flow` its logging when the body is done.
    pub(super) fn owing(mut self, flow: Box<Flow>) -> OutBody {
        let worker = flow.worker.clone();
        self.tail = Some(Box::new(Tail { worker, flow: Some(flow), bytes: 0, ended: false, error: None }));
        self
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        match &mut self.kind {
            Kind::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Kind::Trailed(bytes, trailers) => Poll::Ready(match bytes.take().filter(|b| !b.is_empty()) {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))),
            }),
            Kind::Service(body) => Pin::new(body).poll_frame(cx).map_err(|broken| BodyAborted(broken.text)),
            Kind::Filtered(filtered) => {
                let tail = self.tail.as_mut().expect("a filtered body owes its logging");
                filtered.poll(cx, &mut tail.flow)
            }
        }
    }
}

impl Filtered {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        flow: &mut Option<Box<Flow>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        loop {
            if self.step.is_none() {
                if self.done {
                    let trailers = self.source.as_mut().and_then(|source| source.trailers.take());
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                let (Some(source), Some(flow)) = (self.source.take(), flow.take()) else {
                    return Poll::Ready(None);
                };
                self.step = Some(Box::pin(step(flow, source, std::mem::take(&mut self.filters))));
            }
            let running = self.step.as_mut().expect("made above");
            let step = ready!(running.as_mut().poll(cx));
            self.step = None;
            *flow = Some(step.flow);
            self.source = Some(step.source);
            self.filters = step.filters;
            self.done = step.last || step.frame.is_err();
            if step.frame.is_err() {
                self.source = None;
            }
            match step.frame {
                Ok(frame) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                frame => return Poll::Ready(Some(frame.map_err(BodyAborted))),
            }
        }
    }
}

/// Takes the next chunk through all filters.
async fn step(mut flow: Box<Flow>, mut source: Source, filters: Vec<usize>) -> Step {
    let (frame, last) = match source.next().await {
        Err(error) => (Err(error), true),
        Ok(chunk) => {
            let last = chunk.end_of_stream;
            (flow.filter_chunk(chunk, &filters).await.map(Frame::data), last)
        }
    };
    Step { flow, source, filters, frame, last }
}

impl Flow {
    /// Takes one chunk through the filters, in their order.
    ///
    /// # Errors
    /// What the log says of the filter that failed under `on_error: fail`.
    pub(super) async fn filter_chunk(
        &mut self,
        mut chunk: Chunk,
        filters: &[usize],
    ) -> Result<Bytes, String> {
        let mut ended = false;
        for &index in filters {
            if chunk.data.is_empty() && !chunk.end_of_stream {
                break;
            }
            // An end skips the others, but not those whose word is in the head already.
            if !self.is_sound(index) || ended && !self.takes_chunks(index) {
                continue;
            }
            match self.filter_pieces(index, &mut chunk).await {
                Verdict::Next => {}
                Verdict::End => ended = true,
                Verdict::Fail(kind) => return Err(format!("response_body_filter failed: {}", kind.name())),
            }
        }
        Ok(chunk.data)
    }

    /// Takes one chunk through one filter, in pieces that are small enough for every host.
    pub(super) async fn filter_pieces(&mut self, index: usize, chunk: &mut Chunk) -> Verdict {
        let mut rest = std::mem::take(&mut chunk.data);
        let mut filtered: Vec<Bytes> = Vec::new();
        let verdict = loop {
            let data = rest.split_to(rest.len().min(MAX_CHUNK));
            let last = rest.is_empty();
            let piece = Chunk { data: data.clone(), end_of_stream: chunk.end_of_stream && last };
            self.exchange_mut().chunk = Some(piece);
            let verdict = self.call(index, Phase::ResponseBodyFilter).await;
            filtered.push(self.exchange_mut().chunk.take().map_or(data, |piece| piece.data));
            if last || !matches!(verdict, Verdict::Next) || !self.is_sound(index) {
                break verdict;
            }
            // A filter that works on this thread has had its turn: other exchanges come first.
            tokio::task::yield_now().await;
        };
        // What the filter did not see goes on as it is: it has ended, or its failure is passed over.
        filtered.push(rest);
        filtered.retain(|piece| !piece.is_empty());
        chunk.data = match filtered.len() {
            0 | 1 => filtered.pop().unwrap_or_default(),
            _ => filtered.concat().into(),
        };
        verdict
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let polled = ready!(self.poll_kind(cx));
        if let Some(tail) = &mut self.tail {
            match &polled {
                None => tail.ended = true,
                Some(Ok(frame)) => tail.bytes += frame.data_ref().map_or(0, Bytes::len) as u64,
                Some(Err(error)) => tail.error = Some(error.to_string()),
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Trailed(bytes, trailers) => bytes.is_none() && trailers.is_none(),
            Kind::Service(body) => body.is_end_stream(),
            Kind::Filtered(filtered) => {
                filtered.done && filtered.source.as_ref().is_none_or(|source| source.trailers.is_none())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Service(body) => body.size_hint(),
            // With a length there would be no chunks, and without chunks no trailers.
            Kind::Trailed(..) | Kind::Filtered(_) => SizeHint::default(),
        }
    }
}

impl Drop for OutBody {
    fn drop(&mut self) {
        let complete = self.is_end_stream();
        let Some(mut tail) = self.tail.take() else { return };
        if tail.error.is_none() && !(tail.ended || complete) {
            tail.error = Some("the client went away before the response was sent".to_owned());
        }
        let step = match &mut self.kind {
            Kind::Filtered(filtered) => filtered.step.take(),
            _ => None,
        };
        match (tail.flow.take(), step) {
            (Some(flow), _) => tail.owe(flow),
            (None, Some(step)) => {
                let worker = tail.worker.clone();
                let closing = Box::pin(async move {
                    let mut flow = step.await.flow;
                    tail.close(&mut flow);
                    flow
                });
                worker.logs.push(Owed::Pending(closing));
            }
            (None, None) => {}
        }
    }
}

impl Tail {
    fn close(self, flow: &mut Flow) {
        let duration = flow.started.elapsed();
        let sent = &mut flow.exchange_mut().sent;
        sent.bytes = self.bytes;
        sent.duration = Some(duration);
        if sent.error.is_none() {
            sent.error = self.error.map(Into::into);
        }
    }

    fn owe(self, mut flow: Box<Flow>) {
        let worker = self.worker.clone();
        self.close(&mut flow);
        worker.logs.push(Owed::Flow(flow));
    }
}
