//! Bodies on their way to a service and back. Both are streamed: the slower side sets the pace.

use super::balance::Address;
use super::pool::Pool;
use crate::downstream::{ClientBody, ClientBodyError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// A request body on its way to the service.
pub enum ForwardBody {
    /// None.
    Empty,
    /// In memory.
    Bytes(Bytes),
    /// Still on the client's connection.
    Client(ClientBody),
}

/// How far a client's body has come; shared between hyper, which sends it, and whoever awaits the response.
#[derive(Debug, Default)]
pub(super) enum Upload {
    #[default]
    Sending,
    Sent,
    Failed(ClientBodyError),
}

/// A request body as hyper's client sends it.
pub(super) enum SendBody {
    Empty,
    Bytes(Option<Bytes>),
    Client(ClientBody, Rc<RefCell<Upload>>),
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
        let (body, upload) = match &mut *self {
            SendBody::Empty => return Poll::Ready(None),
            SendBody::Bytes(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            SendBody::Client(body, upload) => (body, upload),
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Err(error))) => {
                upload.replace(Upload::Failed(error));
                Poll::Ready(Some(Err(UploadFailed)))
            }
            Poll::Ready(frame) => {
                if frame.is_none() || body.is_end_stream() {
                    upload.replace(Upload::Sent);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|_| UploadFailed)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            SendBody::Empty | SendBody::Bytes(None) => true,
            SendBody::Bytes(Some(_)) => false,
            SendBody::Client(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            SendBody::Empty | SendBody::Bytes(None) => SizeHint::with_exact(0),
            SendBody::Bytes(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            SendBody::Client(body, _) => body.size_hint(),
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
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

/// Where a connection goes when its response is read.
pub(super) struct Home {
    pub(super) connection: SendRequest<SendBody>,
    pub(super) pool: Rc<Pool>,
    pub(super) address: Address,
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, home: Option<Home>, stall: Duration) -> UpstreamBody {
        let mut body = UpstreamBody { inner, home, stall, timer: None, waiting: false };
        if body.inner.is_end_stream() {
            body.go_home();
        }
        body
    }

    fn go_home(&mut self) {
        if let Some(Home { connection, pool, address }) = self.home.take() {
            pool.put(&address, connection);
        }
    }

    /// The clock starts when the service is waited for and is made once per body, if at all.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stall = self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(stall)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + stall);
        }
        timer.as_mut().poll(cx)
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
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if polled.is_ready() {
            this.waiting = false;
        }
        match polled {
            Poll::Ready(None) => {
                this.go_home();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                if this.inner.is_end_stream() {
                    this.go_home();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.home = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => this.poll_stall(cx).map(|()| {
                this.home = None;
                Some(Err(UpstreamBodyError::Stalled(this.stall)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
