//! The request body: a client that stalls or sends too much is cut off here, whoever reads.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Why a request body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientBodyError {
    /// Over the limit.
    #[error("the request body is too large")]
    TooLarge,
    /// The client sent nothing for too long.
    #[error("the client stalled while sending its body")]
    TimedOut,
    /// The connection broke, or the body was malformed.
    #[error("the request body broke off: {0}")]
    Broken(#[source] hyper::Error),
}

/// A request body on the client's connection.
pub struct ClientBody {
    inner: Incoming,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    left: u64,
}

impl ClientBody {
    /// `stall` is the longest silence, `limit` the most bytes.
    pub fn new(inner: Incoming, stall: Duration, limit: Option<u64>) -> ClientBody {
        ClientBody { inner, stall, timer: None, left: limit.unwrap_or(u64::MAX) }
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`ClientBodyError`]; what was read is lost.
    pub async fn read_all(&mut self, limit: usize) -> Result<Bytes, ClientBodyError> {
        if self.inner.size_hint().lower() > limit as u64 {
            return Err(ClientBodyError::TooLarge);
        }
        let mut whole = Vec::new();
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                if whole.len() + data.len() > limit {
                    return Err(ClientBodyError::TooLarge);
                }
                whole.extend_from_slice(&data);
            }
        }
        Ok(whole.into())
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                Poll::Ready(Some(match self.left.checked_sub(length) {
                    Some(left) => {
                        self.left = left;
                        Ok(frame)
                    }
                    None => Err(ClientBodyError::TooLarge),
                }))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(ClientBodyError::Broken(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let stall = self.stall;
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(stall)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        timer.as_mut().reset(Instant::now() + stall);
                        Poll::Ready(Some(Err(ClientBodyError::TimedOut)))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
