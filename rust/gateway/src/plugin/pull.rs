//! How a body that a handler in this process writes is pulled out of its [`Pipe`].

use super::pipe::Pipe;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Bytes that are handed on at once.
const MOST: usize = 128 * 1024;

/// Who waits for bytes.
#[derive(Default)]
pub struct Reader(Mutex<Option<Waker>>);

impl Reader {
    /// Something was written, or the end was.
    pub fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn keep(&self, waker: &Waker) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }
}

/// The pulling of one body.
pub struct Pull {
    /// The longest wait for the handler.
    patience: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    over: bool,
}

/// What came of it.
pub enum Pulled {
    /// As a [`super::ResponseStream`] says it.
    Next(Option<Result<Bytes, Failure>>),
    /// The handler wrote nothing for too long. Whoever pulls gives it up.
    TimedOut(Failure),
}

impl Pull {
    /// With the longest wait for the handler.
    pub fn new(patience: Duration) -> Pull {
        Pull { patience, clock: None, over: false }
    }

    /// Whether the body has ended, in whatever way.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The next bytes. `room` is called where a write that waits has room again and a ticket is to be taken.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe<T>,
        reader: &Reader,
        room: impl FnOnce(),
    ) -> Poll<Pulled> {
        // Registered before the look, so that nothing is written in between unseen.
        reader.keep(cx.waker());
        let (taken, wake) = pipe.take(MOST);
        if wake {
            room();
        }
        let next = match (taken, pipe.ended()) {
            (Some(data), _) => Some(Ok(data)),
            (None, Some(Ok(()))) => None,
            (None, Some(Err(failure))) => Some(Err(failure)),
            (None, None) => return self.wait(cx),
        };
        self.clock = None;
        self.over = !matches!(next, Some(Ok(_)));
        Poll::Ready(Pulled::Next(next))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Pulled> {
        let patience = self.patience;
        if self.clock.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.over = true;
        const WHY: &str = "the handler wrote nothing for as long as the phase's timeout_ms";
        Poll::Ready(Pulled::TimedOut(Failure::new(FailureKind::TimedOut, WHY)))
    }
}
