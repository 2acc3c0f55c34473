//! A response body that a handler in a plugin's process is still writing, as the pipeline pulls it.

use super::call::InFlight;
use super::child::OpenCall;
use super::inbox::Event;
use crate::plugin::ResponseStream;
use crate::plugin::chunks::{Chunks, Taken, invalid};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_wire::Kind;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// The stream of one call. Dropping it before its end tells the process.
pub(super) struct ProcessStream {
    open: OpenCall,
    /// The call is in flight until the stream ends.
    _counted: Option<InFlight>,
    chunks: Chunks,
    /// The longest wait for a chunk.
    patience: Duration,
    clock: Option<Pin<Box<Sleep>>>,
}

impl ProcessStream {
    /// The stream that a reply has begun.
    pub(super) fn new(open: OpenCall, counted: Option<InFlight>, patience: Duration) -> ProcessStream {
        ProcessStream { open, _counted: counted, chunks: Chunks::new(), patience, clock: None }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, Failure>> {
        match self.open.poll_event(cx) {
            Poll::Ready(Event::Frame(Kind::Chunk, frame)) => {
                Poll::Ready(self.chunks.take(self.open.child.name.as_str(), &frame))
            }
            Poll::Ready(Event::Frame(kind, _)) => {
                Poll::Ready(Err(invalid(&format!("a {} frame came instead", kind.name()))))
            }
            Poll::Ready(Event::Gone) => {
                let why = format!("the plugin's process {} died in its stream", self.open.child.pid);
                Poll::Ready(Err(Failure::new(FailureKind::WorkerDied, why)))
            }
            Poll::Pending => {
                let patience = self.patience;
                let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(patience)));
                const WHY: &str = "the handler wrote nothing for as long as the phase's timeout_ms";
                clock.as_mut().poll(cx).map(|()| Err(Failure::new(FailureKind::TimedOut, WHY)))
            }
        }
    }
}

impl ResponseStream for ProcessStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if self.chunks.is_over() {
            return Poll::Ready(None);
        }
        loop {
            match std::task::ready!(self.poll_event(cx)) {
                Ok(Taken::Ignored) => {}
                Ok(Taken::End) => {
                    self.open.over();
                    return Poll::Ready(None);
                }
                Ok(Taken::Data(data)) => {
                    self.clock = None;
                    if self.chunks.is_over() {
                        self.open.over();
                    } else if let Some(up_to) = self.chunks.room() {
                        self.open.tell_room(Ok(up_to));
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Err(failure) => {
                    self.chunks.end();
                    self.open.tell_room(Err(failure.clone()));
                    self.open.over();
                    return Poll::Ready(Some(Err(failure)));
                }
            }
        }
    }
}
