//! A response that a handler in a library is still writing, from both of its ends.

use super::here::{Here, here};
use super::session::{Ended, Opened, SessionState};
use crate::plugin::ResponseStream;
use crate::plugin::pipe::{Pipe, Room, Unwritten};
use crate::plugin::pull::{Pull, Pulled, Reader};
use bytes::Bytes;
use nylon_abi::method;
use nylon_core::{Context as PhaseContext, Failure, FailureKind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What stands between handler and client.
#[derive(Default)]
pub(super) struct Outlet {
    pipe: Pipe,
    reader: Reader,
    /// Whether the session is over, for a handler that writes to nobody.
    over: Mutex<bool>,
    ended: Condvar,
}

/// The longest that a write to nobody waits for the end of its session.
const LEAVING: Duration = Duration::from_secs(1);

impl Outlet {
    /// The handler has written all, or failed.
    pub(super) fn end(&self, how: Result<(), Failure>) {
        self.pipe.end(how);
        self.reader.wake();
    }

    /// The session is over.
    pub(super) fn leave(&self) {
        self.close();
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }

    /// Waits for the end of a session whose client has left. The ABI tells a handler in no other way that nobody reads,
    /// so one that writes for ever would go on at full speed until then.
    fn await_end(&self) {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.ended.wait_timeout_while(over, LEAVING, |over| !*over));
    }

    /// Nobody reads any more. Whoever waits for room goes on, and what is written is dropped.
    pub(super) fn close(&self) {
        self.pipe.close("nobody reads the response any more");
        self.reader.wake();
    }
}

/// The handler's end.
pub(super) struct Writer {
    /// What it may still read, once the pipeline has taken the exchange over.
    pub(super) context: Option<PhaseContext>,
    pub(super) outlet: Arc<Outlet>,
    /// Bytes that may wait where the handler's thread must not.
    limit: usize,
}

/// A write that is to be done once no lock is held.
pub(super) struct Written {
    outlet: Arc<Outlet>,
    limit: usize,
    /// `None` is the end.
    data: Option<Bytes>,
}

impl Writer {
    /// A part of the body.
    pub(super) fn data(&self, payload: &[u8]) -> Written {
        let data = Some(Bytes::copy_from_slice(payload));
        Written { outlet: self.outlet.clone(), limit: self.limit, data }
    }

    /// The end of the body.
    pub(super) fn end(self) -> Written {
        Written { outlet: self.outlet, limit: self.limit, data: None }
    }
}

impl Written {
    /// Writes. Blocks this thread while the client takes nothing, unless that would block the gateway.
    pub(super) fn wait(self) {
        let Some(data) = self.data else { return self.outlet.end(Ok(())) };
        let pipe = &self.outlet.pipe;
        if here(Here::is_inside) {
            if pipe.push(data, self.limit) == Err(Unwritten::Waiting) {
                let why = format!(
                    "more than limits.max_body_bytes ({} bytes) of the stream wait for the client, and a handler must \
                     not wait inside event_stream: write from a thread of its own",
                    self.limit
                );
                pipe.end(Err(Failure::new(FailureKind::Overloaded, why)));
            }
            return self.outlet.reader.wake();
        }
        loop {
            match pipe.write(data.clone()) {
                // Another thread's write waits.
                Err(Unwritten::Waiting) => drop(pipe.wait()),
                Ok(Room::Wanting) => {
                    self.outlet.reader.wake();
                    // What it comes to shows in the session's end.
                    if pipe.wait().is_err() {
                        self.outlet.await_end();
                    }
                    return;
                }
                Err(Unwritten::Closed(_)) => return self.outlet.await_end(),
                // With room, or to a stream that has ended.
                _ => return self.outlet.reader.wake(),
            }
        }
    }
}

/// Begins a stream: its head is what the handler has made until now.
pub(super) fn begin(state: &mut SessionState) {
    let Some(running) = &mut state.running else { return };
    match running.context.begin_stream() {
        Err(why) => running.fail(Failure::new(FailureKind::Raised, why.to_string())),
        Ok(finished) => {
            let outlet = Arc::<Outlet>::default();
            running.ended = Some(Ended::Begun(Box::new(finished), outlet.clone()));
            state.writer = Some(Box::new(Writer { context: None, outlet, limit: running.limit }));
        }
    }
}

/// Whether the message is part of a stream.
pub(super) fn is_part(number: u32) -> bool {
    matches!(number, method::SET_RESPONSE_STREAM_DATA | method::SET_RESPONSE_STREAM_END)
}

/// The pipeline's end.
pub(super) struct NativeStream {
    opened: Opened,
    outlet: Arc<Outlet>,
    pull: Pull,
}

impl NativeStream {
    pub(super) fn new(opened: Opened, outlet: Arc<Outlet>, patience: Duration) -> NativeStream {
        NativeStream { opened, outlet, pull: Pull::new(patience) }
    }
}

impl ResponseStream for NativeStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        // A write that waits is woken by the pipe itself.
        Poll::Ready(match ready!(self.pull.poll(cx, &self.outlet.pipe, &self.outlet.reader, || {})) {
            Pulled::Next(next) => next,
            Pulled::TimedOut(failure) => {
                self.outlet.close();
                self.opened.close();
                Some(Err(failure))
            }
        })
    }
}

impl Drop for NativeStream {
    fn drop(&mut self) {
        if !self.pull.is_over() {
            self.outlet.close();
        }
    }
}
