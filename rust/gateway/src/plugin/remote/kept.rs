//! Calls of `logging` that were due while the broker was away.
//!
//! Nobody waits for them, so they are kept as they are written, in a bounded buffer and for [`KEEP_FOR`] at most, and
//! sent when the broker is back. What had to be dropped is counted. Such a call is delivered once: one that a worker
//! may have taken is not sent again.

use super::connection::Connection;
use super::counters::Counters;
use super::life::Life;
use super::session;
use super::slot::Event;
use super::workers::Group;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nylon_core::{Failure, FailureKind};
use nylon_wire::{BodyFrame, CallId, Kind, ReadFrame, SessionId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout_at};

/// The longest that a call is kept.
const KEEP_FOR: Duration = Duration::from_secs(10);
/// How many are kept at most, and how many bytes of them.
const MAX_CALLS: usize = 4096;
const MAX_BYTES: usize = 16 << 20;
/// How many are sent at once when the broker is back.
const AT_ONCE: usize = 64;
/// The pause before one that nobody received is sent again: workers come back, too.
const PAUSE: Duration = Duration::from_millis(50);

/// A call that is kept.
pub(super) struct KeptCall {
    id: CallId,
    group: Arc<Group>,
    subject: String,
    frame: Bytes,
    /// The handler's time.
    patience: Duration,
    /// The session that ends with it.
    close: Option<SessionId>,
    since: Instant,
}

impl KeptCall {
    pub(super) fn new(
        id: CallId,
        group: Arc<Group>,
        subject: String,
        frame: Bytes,
        patience: Duration,
        close: Option<SessionId>,
    ) -> KeptCall {
        KeptCall { id, group, subject, frame, patience, close, since: Instant::now() }
    }
}

/// The calls that are kept.
pub(super) struct Kept {
    queue: Mutex<Queue>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<KeptCall>,
    bytes: usize,
}

impl Queue {
    fn pop(&mut self) -> Option<KeptCall> {
        let call = self.calls.pop_front()?;
        self.bytes -= call.frame.len();
        Some(call)
    }
}

impl Kept {
    pub(super) fn new(counters: Arc<Counters>) -> Kept {
        Kept { queue: Mutex::default(), counters }
    }

    /// Keeps a call; false if there is no room.
    pub(super) fn push(&self, call: KeptCall) -> bool {
        self.expire();
        let mut queue = super::connection::lock(&self.queue);
        if queue.calls.len() >= MAX_CALLS || queue.bytes + call.frame.len() > MAX_BYTES {
            drop(queue);
            self.dropped("too many are kept already");
            return false;
        }
        queue.bytes += call.frame.len();
        queue.calls.push_back(call);
        drop(queue);
        self.counters.logging_kept.add();
        true
    }

    /// Drops what was kept too long.
    pub(super) fn expire(&self) {
        loop {
            let mut queue = super::connection::lock(&self.queue);
            if queue.calls.front().is_none_or(|call| call.since.elapsed() < KEEP_FOR) {
                return;
            }
            queue.pop();
            drop(queue);
            self.dropped("the broker was away too long");
        }
    }

    fn next(&self) -> Option<KeptCall> {
        self.expire();
        super::connection::lock(&self.queue).pop()
    }

    fn dropped(&self, why: &str) {
        if let Some(count) = self.counters.logging_dropped.add() {
            tracing::warn!(count, "a call of logging was dropped: {why}");
        }
    }
}

/// Sends what was kept, over a connection that has just come back. What is not delivered when that one is lost is
/// kept for the next.
pub(super) async fn deliver(connection: Weak<Connection>, life: Arc<Life>) {
    let mut sending = FuturesUnordered::new();
    loop {
        while sending.len() < AT_ONCE {
            let Some(strong) = connection.upgrade() else { return };
            let Some(call) = strong.kept.next() else { break };
            let hand = InHand { connection: connection.clone(), call: Some(call) };
            sending.push(send(hand, life.clone()));
        }
        if sending.next().await.is_none() {
            return;
        }
    }
}

/// A call that is being sent. One that is let go unsent is kept again.
struct InHand {
    connection: Weak<Connection>,
    call: Option<KeptCall>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let (Some(connection), Some(call)) = (self.connection.upgrade(), self.call.take()) {
            let mut queue = super::connection::lock(&connection.kept.queue);
            queue.bytes += call.frame.len();
            queue.calls.push_front(call);
        }
    }
}

async fn send(mut hand: InHand, life: Arc<Life>) {
    let Some(connection) = hand.connection.upgrade() else { return };
    let Some(call) = &hand.call else { return };
    let waiting = connection.own_lane().slots.open(call.id, &call.group);
    waiting.watch();
    let mut message = 0;
    let delivered = loop {
        if call.since.elapsed() >= KEEP_FOR {
            break Err("no worker had room for it");
        }
        message += 1;
        let reply_to = waiting.reply_subject(&connection.own_lane().inbox, message);
        if life.client.publish_with_reply(call.subject.clone(), reply_to, call.frame.clone()).await.is_err() {
            return;
        }
        let due = Instant::now() + call.patience;
        match timeout_at(due.into(), waiting.event()).await {
            Ok(Event::Lost) => return,
            Ok(Event::NoResponders(_) | Event::Frame(_, Kind::Busy, _)) => sleep(PAUSE).await,
            Ok(Event::Taken(_)) => {
                // Its reply says nothing that is of use here; the end of the session comes behind it.
                if let Ok(Event::Frame(_, Kind::Read, frame)) = timeout_at(due.into(), waiting.event()).await
                {
                    refuse_body(&frame, call, &life).await;
                }
                break Ok(());
            }
            Ok(Event::Frame(_, Kind::Read, frame)) => {
                refuse_body(&frame, call, &life).await;
                break Ok(());
            }
            Ok(Event::Frame(..)) => break Ok(()),
            Ok(Event::Malformed(_)) | Err(_) => break Err("no worker took it"),
        }
    };
    if let Err(why) = delivered {
        connection.kept.dropped(why);
    }
    if let Some(call) = hand.call.take()
        && let Some(frame) = call.close.and_then(session::end_of)
    {
        connection.send_behind(call.subject, frame);
    }
}

/// A body is not kept along with its call.
async fn refuse_body(frame: &Bytes, call: &KeptCall, life: &Life) {
    let Ok(read) = ReadFrame::decode(frame) else { return };
    let Ok(subject) = call.group.subjects.worker(read.worker.as_str()) else { return };
    let why = Failure::new(FailureKind::BodyUnreadable, "the exchange was over before the broker was back");
    let answer = BodyFrame { id: call.id, which: read.which, body: Err(why), remaining: call.patience };
    let mut frame = Vec::with_capacity(160);
    if answer.encode(&mut frame).is_ok() && life.client.publish(subject, frame.into()).await.is_err() {
        tracing::debug!("a worker's question for a body was not answered: the connection is lost");
    }
}
