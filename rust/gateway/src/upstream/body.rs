//! Bodies on their way to a service and back. Both are streamed: the slower side sets the pace.

use super::balance::Seat;
use super::kept::Reading;
use super::lines::Place;
use super::pool::{Connection, Pool};
use super::trailers;
use super::watch::Watch;
use crate::downstream::{ClientBody, ClientBodyError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// A request body on its way to the service.
pub enum ForwardBody {
    /// None.
    Empty,
    /// In memory.
    Bytes(Bytes),
    /// Still on the client's connection.
    Client(ClientBody),
}

impl ForwardBody {
    /// The same once more, if it is in memory.
    pub(super) fn copy(&self) -> Option<ForwardBody> {
        match self {
            ForwardBody::Empty => Some(ForwardBody::Empty),
            ForwardBody::Bytes(bytes) => Some(ForwardBody::Bytes(bytes.clone())),
            ForwardBody::Client(_) => None,
        }
    }
}

/// How far a client's body has come; shared between hyper, which sends it, and whoever awaits the response.
#[derive(Debug, Default)]
pub(super) enum Upload {
    Sending,
    #[default]
    Sent,
    Failed(ClientBodyError),
}

/// A request body as hyper's client sends it.
pub(super) enum SendBody {
    Empty,
    Bytes(Option<Bytes>),
    Client(ClientBody, Rc<Watch>),
    /// Over HTTP/2, where it may have to be sent again.
    Kept(Reading, Rc<Watch>),
}

/// The client's body failed; the reason is kept in [`Upload::Failed`].
#[derive(Debug, thiserror::Error)]
#[error("the client did not deliver its body")]
pub(super) struct UploadFailed;

impl Body for SendBody {
    type Data = Bytes;
    type Error = UploadFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        let (polled, ends, watch) = match &mut *self {
            SendBody::Empty => return Poll::Ready(None),
            SendBody::Bytes(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            SendBody::Client(body, watch) => {
                let polled = Pin::new(&mut *body).poll_frame(cx).map_ok(trailers::cleaned);
                let ends = matches!(polled, Poll::Ready(_)) && body.is_end_stream();
                (polled, ends, watch)
            }
            SendBody::Kept(body, watch) => {
                let polled = body.poll(cx);
                let ends = matches!(polled, Poll::Ready(_)) && body.is_end_stream();
                (polled, ends, watch)
            }
        };
        match polled {
            Poll::Ready(Some(Err(error))) => {
                watch.upload.replace(Upload::Failed(error));
                Poll::Ready(Some(Err(UploadFailed)))
            }
            Poll::Ready(frame) => {
                if frame.is_none() || ends {
                    watch.upload.replace(Upload::Sent);
                }
                watch.uploading(true);
                Poll::Ready(frame.map(|frame| frame.map_err(|_| UploadFailed)))
            }
            Poll::Pending => {
                watch.uploading(false);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            SendBody::Empty | SendBody::Bytes(None) => true,
            SendBody::Bytes(Some(_)) => false,
            SendBody::Client(body, _) => body.is_end_stream(),
            SendBody::Kept(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            SendBody::Empty | SendBody::Bytes(None) => SizeHint::with_exact(0),
            SendBody::Bytes(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            SendBody::Client(body, _) => body.size_hint(),
            SendBody::Kept(body, _) => body.size_hint(),
        }
    }
}

/// A response body that broke off.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamBodyError {
    /// The connection broke, or the framing did.
    #[error("the upstream broke off its response: {0}")]
    Broken(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("the upstream sent nothing for {0:?} (upstream_read_timeout_ms)")]
    Stalled(Duration),
}

/// A response body. Read to its end it gives its connection back to the pool.
pub struct UpstreamBody {
    inner: Incoming,
    home: Option<Home>,
    /// The place at the endpoint, which is free once the response is read.
    seat: Option<Seat>,
    stream: Option<Box<Stream>>,
}

/// A response's place on a connection that others use too, with a clock of its own.
struct Stream {
    silence: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Stream {
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.silence)));
        timer.as_mut().poll(cx).is_ready()
    }
}

/// A connection in use, and where it goes when its response is read.
pub(super) struct Home {
    pub(super) connection: Connection,
    pub(super) pool: Rc<Pool>,
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, home: Option<Home>, seat: Option<Seat>) -> UpstreamBody {
        let mut body = UpstreamBody { inner, home, seat, stream: None };
        if body.inner.is_end_stream() {
            body.go_home();
        }
        body
    }

    /// A body on a connection that others use too.
    pub(super) fn on_stream(inner: Incoming, place: Place, seat: Seat) -> UpstreamBody {
        let silence = seat.address().limits().read_timeout;
        let mut body = UpstreamBody { inner, home: None, seat: Some(seat), stream: None };
        match body.inner.is_end_stream() {
            true => body.seat = None,
            false => body.stream = Some(Box::new(Stream { silence, timer: None, _place: place })),
        }
        body
    }

    fn poll_stream(
        &mut self,
        polled: Poll<Option<Result<Frame<Bytes>, hyper::Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        let Some(stream) = &mut self.stream else { return polled.map_err(UpstreamBodyError::Broken) };
        match &polled {
            Poll::Pending => {
                if stream.is_late(cx) {
                    let silence = stream.silence;
                    self.leave();
                    return Poll::Ready(Some(Err(UpstreamBodyError::Stalled(silence))));
                }
            }
            Poll::Ready(Some(Ok(_))) if !self.inner.is_end_stream() => stream.timer = None,
            Poll::Ready(_) => self.leave(),
        }
        polled.map_err(UpstreamBodyError::Broken)
    }

    /// Frees what the response had of a connection that others use too.
    fn leave(&mut self) {
        (self.stream, self.seat) = (None, None);
    }

    fn go_home(&mut self) {
        if let Some(Home { connection, pool }) = self.home.take() {
            pool.put(connection);
        }
        self.seat = None;
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx).map_ok(trailers::cleaned);
        let Some(Home { connection: Connection { watch, .. }, .. }) = &this.home else {
            return this.poll_stream(polled, cx);
        };
        match &polled {
            Poll::Pending => watch.keep_expecting(watch.limits().read_timeout),
            Poll::Ready(Some(Err(_))) if watch.is_late() => {
                let limit = watch.limits().read_timeout;
                this.home = None;
                return Poll::Ready(Some(Err(UpstreamBodyError::Stalled(limit))));
            }
            Poll::Ready(Some(Err(_))) => this.home = None,
            Poll::Ready(Some(Ok(_))) => {
                watch.relax();
                if this.inner.is_end_stream() {
                    this.go_home();
                }
            }
            Poll::Ready(None) => this.go_home(),
        }
        polled.map_err(UpstreamBodyError::Broken)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
