//! A response body that a worker's handler is still writing, as the pipeline pulls it.
//!
//! The worker may send a window of chunks; it gets room for more as the client takes them, so whatever is slow holds
//! the handler back and no more than a window waits in the broker and here. The room is told again each second
//! while a chunk is waited for: the server answers at once if the worker is gone.

use super::call::Counted;
use super::connection::Connection;
use super::lane::Lane;
use super::peer::Peer;
use super::slot::Event;
use super::waiting::Waiting;
use crate::plugin::ResponseStream;
use crate::plugin::buffer::in_buffer;
use crate::plugin::chunks::{Chunks, Taken, invalid};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use nylon_core::{Failure, FailureKind};
use nylon_wire::{CallId, CreditFrame, Kind, Which};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// How often a worker that sends nothing is told that it may.
const BEAT: Duration = Duration::from_secs(1);

/// The number that tells answers to a credit from those to the call's other messages, of which there are few.
const CREDIT: u32 = u32::MAX;

/// The stream of one call.
pub(super) struct RemoteStream {
    waiting: Waiting,
    connection: Arc<Connection>,
    /// The way that the call took.
    lane: Arc<Lane>,
    /// A credit on its way out.
    telling: Option<LocalBoxFuture<'static, ()>>,
    /// The call is in flight until the stream ends.
    _counted: Counted,
    id: CallId,
    worker: Arc<Peer>,
    chunks: Chunks,
    /// The longest wait for a chunk.
    patience: Duration,
    /// Since when a chunk is waited for, and until when; `None` while nobody waits.
    clocks: Option<Clocks>,
}

struct Clocks {
    end: Pin<Box<Sleep>>,
    beat: Pin<Box<Sleep>>,
}

impl RemoteStream {
    /// The stream that a reply of `worker` has begun.
    pub(super) fn new(
        waiting: Waiting,
        (connection, lane): (Arc<Connection>, Arc<Lane>),
        counted: Counted,
        id: CallId,
        worker: Arc<Peer>,
        patience: Duration,
    ) -> RemoteStream {
        RemoteStream {
            waiting,
            connection,
            lane,
            telling: None,
            _counted: counted,
            id,
            worker,
            chunks: Chunks::new(),
            patience,
            clocks: None,
        }
    }

    /// Gives room once half of it is used up.
    fn give_room(&mut self) {
        if self.chunks.room().is_some() {
            self.tell_room();
        }
    }

    fn frame(&self, up_to: Result<u64, Failure>) -> Option<Bytes> {
        let credit = CreditFrame { id: self.id, which: Which::Stream, up_to };
        match in_buffer(|buffer| credit.encode(buffer)) {
            Ok(frame) => Some(frame),
            Err(why) => {
                tracing::error!("a credit could not be written: {why}");
                None
            }
        }
    }

    /// Tells the worker how far it may go. What cannot be told now is told with the next beat.
    fn tell_room(&mut self) {
        let (Some(life), Some(frame)) = (self.lane.life(), self.frame(Ok(self.chunks.granted()))) else {
            return;
        };
        let subject = self.worker.subject.clone();
        let reply = self.waiting.reply_subject(&self.lane.inbox, CREDIT);
        self.telling = Some(Box::pin(async move {
            if let Err(why) = life.client.publish_with_reply(subject, reply, frame).await {
                tracing::debug!("a credit was not sent: {why}");
            }
        }));
    }

    /// Tells the worker that it need not go on.
    fn tell_end(&self, failure: Failure) {
        if let Some(frame) = self.frame(Err(failure)) {
            self.connection.send_behind(self.worker.subject.clone(), frame);
        }
    }

    fn poll_telling(&mut self, cx: &mut Context<'_>) {
        if self.telling.as_mut().is_some_and(|telling| telling.as_mut().poll(cx).is_ready()) {
            self.telling = None;
        }
    }

    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let patience = self.patience;
        let clocks = self
            .clocks
            .get_or_insert_with(|| Clocks { end: Box::pin(sleep(patience)), beat: Box::pin(sleep(BEAT)) });
        if clocks.end.as_mut().poll(cx).is_ready() {
            const WHY: &str = "the handler wrote nothing for as long as the phase's timeout_ms";
            return Poll::Ready(Failure::new(FailureKind::TimedOut, WHY));
        }
        let mut is_due = false;
        while clocks.beat.as_mut().poll(cx).is_ready() {
            clocks.beat.as_mut().reset(Instant::now() + BEAT);
            is_due = true;
        }
        if is_due {
            self.tell_room();
            self.poll_telling(cx);
        }
        Poll::Pending
    }

    /// Whether the connection was lost a moment ago, so that the worker may not be back yet.
    fn is_settling(&self) -> bool {
        self.lane.life().is_none_or(|life| life.is_settling())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, Failure>> {
        match self.waiting.poll_event(cx) {
            Poll::Ready(Event::Frame(_, Kind::Chunk, frame)) => {
                Poll::Ready(self.chunks.take(self.worker.name(), &frame))
            }
            Poll::Ready(Event::NoResponders(CREDIT)) if !self.is_settling() => {
                let worker = self.worker.name();
                let why = format!("worker {worker:?} is gone in the middle of its stream");
                Poll::Ready(Err(Failure::new(FailureKind::WorkerDied, why)))
            }
            Poll::Ready(Event::Malformed(why)) => Poll::Ready(Err(invalid(&why.to_string()))),
            // Another copy of the reply, the answer to a question, an outage: whether chunks were lost in it shows by
            // their numbers.
            Poll::Ready(_) => Poll::Ready(Ok(Taken::Ignored)),
            Poll::Pending => self.poll_clocks(cx).map(Err),
        }
    }
}

impl ResponseStream for RemoteStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if self.chunks.is_over() {
            return Poll::Ready(None);
        }
        self.poll_telling(cx);
        loop {
            let taken = ready!(self.poll_event(cx));
            match taken {
                Ok(Taken::Ignored) => {}
                Ok(Taken::End) => return Poll::Ready(None),
                Ok(Taken::Data(data)) => {
                    self.clocks = None;
                    self.give_room();
                    self.poll_telling(cx);
                    return Poll::Ready(Some(Ok(data)));
                }
                Err(failure) => {
                    self.chunks.end();
                    self.tell_end(failure.clone());
                    return Poll::Ready(Some(Err(failure)));
                }
            }
        }
    }
}

impl Drop for RemoteStream {
    fn drop(&mut self) {
        if !self.chunks.is_over() {
            const WHY: &str = "nobody reads the response any more";
            self.tell_end(Failure::new(FailureKind::Cancelled, WHY));
        }
    }
}
