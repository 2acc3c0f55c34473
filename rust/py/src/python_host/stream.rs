//! A response that a handler in this process is still writing, from both of its ends.

use super::call::Waiting;
use super::event_loop::{EventLoop, LoopJob};
use crate::context::{Lease, Outlet, Pipe};
use bytes::Bytes;
use nylon_core::Failure;
use nylon_gateway::plugin::ResponseStream;
use nylon_gateway::plugin::pull::{Pull, Pulled, Reader};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The handler's end: what it writes wakes the data-plane thread that pulls.
pub(super) struct LocalOutlet {
    pipe: Pipe,
    reader: Reader,
    /// Where an `async def` handler waits.
    event_loop: Option<Arc<EventLoop>>,
}

impl LocalOutlet {
    pub(super) fn new(event_loop: Option<Arc<EventLoop>>) -> Arc<LocalOutlet> {
        Arc::new(LocalOutlet { pipe: Pipe::default(), reader: Reader::default(), event_loop })
    }

    /// Nobody reads any more.
    pub(super) fn close(self: &Arc<Self>) {
        self.pipe.close("nobody reads the response any more");
        self.wake_writer();
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
        self.reader.wake();
    }
}

/// The pipeline's end.
pub(super) struct LocalStream {
    lease: Arc<Lease<Waiting>>,
    outlet: Arc<LocalOutlet>,
    patience: Duration,
    pull: Pull,
}

impl LocalStream {
    pub(super) fn new(
        lease: Arc<Lease<Waiting>>,
        outlet: Arc<LocalOutlet>,
        patience: Duration,
    ) -> LocalStream {
        LocalStream { lease, outlet, patience, pull: Pull::new(patience) }
    }
}

impl ResponseStream for LocalStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let outlet = &self.outlet;
        let pulled = self.pull.poll(cx, &outlet.pipe, &outlet.reader, || outlet.wake_writer());
        Poll::Ready(match ready!(pulled) {
            Pulled::Next(next) => next,
            Pulled::TimedOut(failure) => {
                self.lease.give_up(failure.clone());
                outlet.wake_writer();
                if let Some(event_loop) = &outlet.event_loop {
                    event_loop.push(LoopJob::Cancel(self.lease.clone()));
                }
                Some(Err(failure))
            }
        })
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        if self.pull.is_over() {
            return;
        }
        self.outlet.close();
        if let Some(event_loop) = &self.outlet.event_loop {
            event_loop.push(LoopJob::CancelAfter(self.lease.clone(), self.patience));
        }
    }
}
