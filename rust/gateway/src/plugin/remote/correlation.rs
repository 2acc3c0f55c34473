//! Which answer belongs to which call.
//!
//! One wildcard inbox receives every answer; the last token of its subject names a slot and the use of it (a
//! generation), so an answer that comes too late finds nobody and leaves nothing behind. The table is split in
//! shards, each behind a lock that is held for a few instructions, never across a call or an await.

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use nylon_wire::subjects::{parse_reply_token, reply_token};
use nylon_wire::{Ack, Envelope, Kind, Text};
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Enough for the data-plane threads of one machine to rarely meet in one.
const SHARDS: u32 = 16;
/// Frames that one call may have waiting: a window of a body's parts and what stands beside them. A worker that
/// sends more is a misbehaving one.
const MAX_WAITING: usize = 2 * nylon_wire::limits::WINDOW as usize;
/// Answers up to this size are copied out of the connection's read buffer, which they would keep alive whole.
const COPY_UP_TO: usize = 16 * 1024;

/// What came in for a call.
#[derive(Debug)]
pub(super) enum Event {
    /// The server knows nobody who listens on the subject.
    NoResponders,
    /// A frame of a worker.
    Frame(Bytes),
}

/// The calls in flight on one connection.
pub(super) struct Slots {
    shards: [Mutex<Shard>; SHARDS as usize],
    next_shard: AtomicU32,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    open: bool,
    worker: Option<Text>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

thread_local! {
    /// The shard of this thread; `SHARDS` while it has none.
    static SHARD: Cell<u32> = const { Cell::new(SHARDS) };
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing that could panic half-way runs under the lock.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    pub(super) fn new() -> Arc<Slots> {
        Arc::new(Slots { shards: Default::default(), next_shard: AtomicU32::new(0) })
    }

    /// Opens a slot for a call.
    pub(super) fn open(self: &Arc<Slots>) -> Waiting {
        let shard = SHARD.with(|own| {
            if own.get() == SHARDS {
                own.set(self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS);
            }
            own.get()
        });
        let mut guard = lock(&self.shards[shard as usize]);
        let index = guard.free.pop().unwrap_or(guard.slots.len() as u32);
        if index as usize == guard.slots.len() {
            guard.slots.push(Slot::default());
        }
        let slot = &mut guard.slots[index as usize];
        slot.open = true;
        Waiting { slots: self.clone(), number: index * SHARDS + shard, generation: slot.generation }
    }

    /// Runs `act` on the slot if this use of it is still open.
    fn with<R>(&self, number: u32, generation: u32, act: impl FnOnce(&mut Slot) -> R) -> Option<R> {
        let mut shard = lock(&self.shards[(number % SHARDS) as usize]);
        let slot = shard.slots.get_mut((number / SHARDS) as usize)?;
        (slot.open && slot.generation == generation).then(|| act(slot))
    }

    /// Hands an answer to its call. False if nobody waits for it (any more).
    pub(super) fn deliver(&self, token: &str, message: Message) -> bool {
        let Some((number, generation)) = parse_reply_token(token) else { return false };
        let payload = message.payload;
        let no_responders = message.status == Some(StatusCode::NO_RESPONDERS);
        let acked = !no_responders && Envelope::peek(&payload).is_ok_and(|seen| seen.kind == Kind::Ack);
        if acked {
            // The call goes on waiting, so its thread is not woken for this.
            return Ack::decode(&payload).is_ok_and(|ack| {
                self.with(number, generation, |slot| slot.worker = Some(detach(ack))).is_some()
            });
        }
        let event = match no_responders {
            true => Event::NoResponders,
            false if payload.len() <= COPY_UP_TO => Event::Frame(Bytes::copy_from_slice(&payload)),
            false => Event::Frame(payload),
        };
        let waker = self.with(number, generation, |slot| {
            let room = slot.events.len() < MAX_WAITING;
            if room {
                slot.events.push_back(event);
            }
            (room, slot.waker.take())
        });
        let Some((taken, waker)) = waker else { return false };
        if let Some(waker) = waker {
            waker.wake();
        }
        taken
    }

    /// Calls in flight.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).slots.iter().filter(|slot| slot.open).count()).sum()
    }
}

/// The worker's id without the read buffer behind it.
fn detach(ack: Ack) -> Text {
    Text::from(ack.worker.as_str())
}

/// One call that waits for its answers. Dropping it gives the slot back; what comes later finds nobody.
pub(super) struct Waiting {
    slots: Arc<Slots>,
    number: u32,
    generation: u32,
}

impl Waiting {
    /// The reply subject of this call under an inbox (`_INBOX.abc.`).
    pub(super) fn reply_subject(&self, inbox: &str) -> String {
        let mut subject = String::with_capacity(inbox.len() + 17);
        subject.push_str(inbox);
        reply_token(&mut subject, self.number, self.generation);
        subject
    }

    /// The next thing that came in.
    pub(super) async fn event(&self) -> Event {
        poll_fn(|context| {
            let next = self.slots.with(self.number, self.generation, |slot| match slot.events.pop_front() {
                Some(event) => Poll::Ready(event),
                None => {
                    match &mut slot.waker {
                        Some(waker) => waker.clone_from(context.waker()),
                        none => *none = Some(context.waker().clone()),
                    }
                    Poll::Pending
                }
            });
            next.expect("a slot is open as long as its Waiting lives")
        })
        .await
    }

    /// The worker that said it has the call.
    pub(super) fn acked_by(&self) -> Option<Text> {
        self.slots.with(self.number, self.generation, |slot| slot.worker.clone()).flatten()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut shard = lock(&self.slots.shards[(self.number % SHARDS) as usize]);
        let index = self.number / SHARDS;
        if let Some(slot) = shard.slots.get_mut(index as usize) {
            *slot = Slot { generation: self.generation.wrapping_add(1), ..Slot::default() };
            shard.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn message(payload: Bytes, status: Option<StatusCode>) -> Message {
        Message {
            subject: "inbox".into(),
            reply: None,
            payload,
            headers: None,
            status,
            description: None,
            length: 0,
        }
    }

    fn token(waiting: &Waiting) -> String {
        waiting.reply_subject("")
    }

    #[test]
    fn an_answer_that_comes_too_late_finds_nobody_and_leaves_nothing() {
        let slots = Slots::new();
        let first = slots.open();
        let late = token(&first);
        drop(first);
        let second = slots.open();
        assert_ne!(late, token(&second));
        assert!(!slots.deliver(&late, message(Bytes::from_static(b"late"), None)));
        assert!(second.event().now_or_never().is_none());
        assert!(slots.deliver(&token(&second), message(Bytes::new(), Some(StatusCode::NO_RESPONDERS))));
        assert!(matches!(second.event().now_or_never(), Some(Event::NoResponders)));
        drop(second);
        assert_eq!(slots.in_use(), 0);
    }

    #[test]
    fn an_ack_is_remembered_and_wakes_nobody() {
        let slots = Slots::new();
        let waiting = slots.open();
        let mut frame = Vec::new();
        let ack = Ack { id: nylon_wire::CallId([1; 16]), worker: "w1".into() };
        ack.encode(&mut frame).expect("encode");
        assert!(slots.deliver(&token(&waiting), message(frame.into(), None)));
        assert!(waiting.event().now_or_never().is_none());
        assert_eq!(waiting.acked_by(), Some("w1".into()));
    }

    #[test]
    fn a_flood_for_one_call_is_bounded() {
        let slots = Slots::new();
        let waiting = slots.open();
        let taken = (0..100).filter(|_| slots.deliver(&token(&waiting), message(Bytes::new(), None))).count();
        assert_eq!(taken, MAX_WAITING);
        assert!(!slots.deliver("nonsense", message(Bytes::new(), None)));
    }
}
