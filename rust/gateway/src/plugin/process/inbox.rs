//! What comes in for one call, on its way from the thread that reads to the one that waits.

use bytes::Bytes;
use nylon_wire::Kind;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Frames that one call may have waiting: a window of a body's parts and what stands beside them.
const MAX_WAITING: usize = 2 * nylon_wire::limits::WINDOW as usize;

/// What came in for a call.
pub(super) enum Event {
    /// A frame.
    Frame(Kind, Bytes),
    /// The process is gone.
    Gone,
}

/// The events of one call.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    frames: VecDeque<(Kind, Bytes)>,
    gone: bool,
    waker: Option<Waker>,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came in. False where the call has too many of them waiting already.
    pub(super) fn push(&self, kind: Kind, frame: Bytes) -> bool {
        let mut state = self.state();
        if state.frames.len() == MAX_WAITING {
            return false;
        }
        state.frames.push_back((kind, frame));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        let waker = {
            let mut state = self.state();
            state.gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut state = self.state();
        if let Some((kind, frame)) = state.frames.pop_front() {
            return Poll::Ready(Event::Frame(kind, frame));
        }
        // What it sent before its end still counts.
        if state.gone {
            return Poll::Ready(Event::Gone);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub(super) async fn event(&self) -> Event {
        poll_fn(|cx| self.poll(cx)).await
    }
}
