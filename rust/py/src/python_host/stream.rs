//! A response that a handler in this process is still writing, from both of its ends.

use super::call::Waiting;
use super::event_loop::{EventLoop, LoopJob};
use crate::context::{Lease, Outlet, Pipe};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_gateway::plugin::ResponseStream;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Bytes that are handed on at once.
const MOST: usize = 128 * 1024;

/// The handler's end: what it writes wakes the data-plane thread that pulls.
pub(super) struct LocalOutlet {
    pipe: Pipe,
    reader: Mutex<Option<Waker>>,
    /// Where an `async def` handler waits.
    event_loop: Option<Arc<EventLoop>>,
}

impl LocalOutlet {
    pub(super) fn new(event_loop: Option<Arc<EventLoop>>) -> Arc<LocalOutlet> {
        Arc::new(LocalOutlet { pipe: Pipe::default(), reader: Mutex::default(), event_loop })
    }

    /// Nobody reads any more.
    pub(super) fn close(self: &Arc<Self>) {
        self.pipe.close("nobody reads the response any more");
        self.wake_writer();
    }

    fn reader(&self) -> Option<Waker> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn wake_writer(self: &Arc<Self>) {
        if let Some(event_loop) = &self.event_loop {
            event_loop.push(LoopJob::WakeWriter(self.clone()));
        }
    }
}

impl Outlet for LocalOutlet {
    fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    fn written(&self) {
        if let Some(reader) = self.reader() {
            reader.wake();
        }
    }
}

/// The pipeline's end.
pub(super) struct LocalStream {
    lease: Arc<Lease<Waiting>>,
    outlet: Arc<LocalOutlet>,
    /// The longest wait for the handler.
    patience: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl LocalStream {
    pub(super) fn new(
        lease: Arc<Lease<Waiting>>,
        outlet: Arc<LocalOutlet>,
        patience: Duration,
    ) -> LocalStream {
        LocalStream { lease, outlet, patience, clock: None, over: false }
    }

    fn look(&self) -> Poll<Option<Result<Bytes, Failure>>> {
        let (taken, wake) = self.outlet.pipe.take(MOST);
        if wake {
            self.outlet.wake_writer();
        }
        match (taken, self.outlet.pipe.ended()) {
            (Some(data), _) => Poll::Ready(Some(Ok(data))),
            (None, Some(Ok(()))) => Poll::Ready(None),
            (None, Some(Err(failure))) => Poll::Ready(Some(Err(failure))),
            (None, None) => Poll::Pending,
        }
    }
}

impl ResponseStream for LocalStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        // Registered before the look, so that nothing is written in between unseen.
        *self.outlet.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        let looked = self.look();
        if looked.is_ready() {
            self.clock = None;
            self.over = !matches!(looked, Poll::Ready(Some(Ok(_))));
            return looked;
        }
        let patience = self.patience;
        if self.clock.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.over = true;
        const WHY: &str = "the handler wrote nothing for as long as the phase's timeout_ms";
        let failure = Failure::new(FailureKind::TimedOut, WHY);
        self.lease.give_up(failure.clone());
        self.outlet.wake_writer();
        if let Some(event_loop) = &self.outlet.event_loop {
            event_loop.push(LoopJob::Cancel(self.lease.clone()));
        }
        Poll::Ready(Some(Err(failure)))
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.outlet.close();
        if let Some(event_loop) = &self.outlet.event_loop {
            event_loop.push(LoopJob::CancelAfter(self.lease.clone(), self.patience));
        }
    }
}
