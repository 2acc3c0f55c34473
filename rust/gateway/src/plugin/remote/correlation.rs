//! Which answer belongs to which call.
//!
//! One wildcard inbox receives every answer; the last token of its subject names a slot and the use of it (a
//! generation), so an answer that comes too late finds nobody and leaves nothing behind. The table is split in
//! shards, each behind a lock that is held for a few instructions, never across a call or an await.
//!
//! Who took a call is noted in its slot, for nobody else's sake than the few calls that are not answered soon: only
//! those ask to be woken for it.

use super::counters::Counters;
use super::ledger::NOBODY;
use super::orphans::Orphans;
use super::peer::Peer;
use super::slot::{Event, OpenCall};
use super::waiting::Waiting;
use super::workers::Group;
use async_nats::{Message, StatusCode};
use bytes::Bytes;
use nylon_wire::subjects::parse_reply_token;
use nylon_wire::{Ack, CallId, Envelope, Kind, WireError};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::sync::mpsc;

/// Enough for the data-plane threads of one machine to rarely meet in one.
const SHARDS: u32 = 16;
/// Frames that one call may have waiting: a window of a body's parts and what stands beside them. A worker that
/// sends more is a misbehaving one.
const MAX_WAITING: usize = 2 * nylon_wire::limits::WINDOW as usize;
/// Workers beside its own that one call can have had.
const MAX_OTHERS: usize = 16;
/// Answers up to this size are copied out of the connection's read buffer, which they would keep alive whole.
const COPY_UP_TO: usize = 16 * 1024;

/// The calls in flight on one connection.
pub(super) struct Slots {
    shards: [Mutex<Shard>; SHARDS as usize],
    next_shard: AtomicU32,
    counters: Arc<Counters>,
    /// Calls whose late takers are told that their session is over.
    pub(super) orphans: Orphans,
    /// Messages that nobody waits for.
    behind: mpsc::Sender<(String, Bytes)>,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    /// None while the slot is free.
    call: Option<OpenCall>,
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
    /// `behind` takes what is to be told to workers that are too late.
    pub(super) fn new(counters: Arc<Counters>, behind: mpsc::Sender<(String, Bytes)>) -> Arc<Slots> {
        let (shards, next_shard, orphans) = Default::default();
        Arc::new(Slots { shards, next_shard, counters, orphans, behind })
    }

    /// Opens a slot for a call to a group.
    pub(super) fn open(self: &Arc<Slots>, id: CallId, group: &Arc<Group>) -> Waiting {
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
        slot.call = Some(OpenCall {
            id,
            group: group.clone(),
            worker: None,
            taken: None,
            pinned: false,
            sendings: 0,
            others: Vec::new(),
            watching: false,
            news: false,
            lost: false,
            events: VecDeque::new(),
            waker: None,
        });
        Waiting::new(self.clone(), index * SHARDS + shard, slot.generation)
    }

    /// Gives the slot back. What comes for this use of it later finds nobody.
    pub(super) fn close(&self, number: u32, generation: u32) {
        let index = number / SHARDS;
        let mut shard = lock(&self.shards[(number % SHARDS) as usize]);
        let Some(slot) = shard.slots.get_mut(index as usize) else { return };
        slot.generation = generation.wrapping_add(1);
        let over = slot.call.take();
        shard.free.push(index);
        drop(shard);
        if let Some(mut call) = over {
            call.assign(None, true);
            // What came behind the answer that ended the call.
            call.events.iter().for_each(|_| self.late("the same worker"));
        }
    }

    /// Runs `act` on the slot's call if this use of it is still open.
    pub(super) fn with<R>(
        &self,
        number: u32,
        generation: u32,
        act: impl FnOnce(&mut OpenCall) -> R,
    ) -> Option<R> {
        let mut shard = lock(&self.shards[(number % SHARDS) as usize]);
        let slot = shard.slots.get_mut((number / SHARDS) as usize)?;
        if slot.generation != generation {
            return None;
        }
        slot.call.as_mut().map(act)
    }

    /// Hands an answer to its call. What nobody waits for is counted.
    pub(super) fn deliver(&self, token: &str, message: Message) {
        let Some((number, generation, sent)) = parse_reply_token(token) else {
            return self.counters.misbehaved(NOBODY, "an answer to a call that never was", &token);
        };
        let payload = message.payload;
        let (id, event) = match message.status {
            Some(StatusCode::NO_RESPONDERS) => (None, Ok(Event::NoResponders(sent))),
            _ => match Envelope::peek(&payload) {
                Ok(Envelope { kind: Kind::Ack, .. }) => match Ack::decode(&payload) {
                    Ok(ack) => return self.take(number, generation, sent, &ack),
                    Err(why) => (None, Ok(Event::Malformed(why))),
                },
                Ok(Envelope { kind, id, .. }) => {
                    let copied = payload.len() <= COPY_UP_TO;
                    let payload = if copied { Bytes::copy_from_slice(&payload) } else { payload };
                    (id, Ok(Event::Frame(sent, kind, payload)))
                }
                // A later version's frame of something else.
                Err(why @ WireError::Kind { .. }) => (None, Err(why)),
                Err(why) => (None, Ok(Event::Malformed(why))),
            },
        };
        let noted = self.with(number, generation, |call| {
            let stray = match event {
                Err(why) => Some(("a frame of a kind that is not known", why.to_string())),
                Ok(_) if id.is_some_and(|id| id != call.id) => {
                    Some(("a frame that names another call", format!("{id:?}")))
                }
                Ok(_) if call.events.len() >= MAX_WAITING => {
                    Some(("more frames than one call can have", format!("{:?}", call.id)))
                }
                Ok(event) => {
                    call.events.push_back(event);
                    None
                }
            };
            match stray {
                None => Ok(call.waker.take()),
                Some(stray) => Err((stray, call.worker.clone())),
            }
        });
        match noted {
            Some(Ok(waker)) => waker.into_iter().for_each(Waker::wake),
            Some(Err(((kind, detail), worker))) => {
                self.counters.misbehaved(worker.as_deref().map_or(NOBODY, Peer::name), kind, &detail);
            }
            None => self.late(token),
        }
    }

    /// Notes that a worker has the call. That wakes nobody who has not asked for it.
    fn take(&self, number: u32, generation: u32, sent: u32, ack: &Ack) {
        let noted = self.with(number, generation, |call| {
            let peer = (call.id == ack.id).then(|| call.group.peer(ack.worker.as_str())).flatten()?;
            call.group.heard(&peer);
            // One that took an earlier message and says so only now does not displace a later one.
            let pinned = call.pinned && !call.worker.as_ref().is_some_and(|own| Arc::ptr_eq(own, &peer));
            if !pinned && call.taken.is_none_or(|taken| taken <= sent) {
                call.taken = Some(sent);
                call.assign(Some(peer), true);
            } else if call.others.len() < MAX_OTHERS
                && !call.others.iter().any(|known| Arc::ptr_eq(known, &peer))
            {
                call.others.push(peer);
            }
            call.news |= call.watching;
            Some(if call.watching { call.waker.take() } else { None })
        });
        match noted {
            Some(Some(waker)) => waker.into_iter().for_each(Waker::wake),
            Some(None) => {
                let kind = "an ack that names another call, or an impossible worker";
                self.counters.misbehaved(NOBODY, kind, &ack.worker.as_str());
            }
            None => {
                self.late(ack.worker.as_str());
                if let Some(end) = self.orphans.end_of(ack)
                    && self.behind.try_send(end).is_err()
                {
                    tracing::debug!("the end of a session was not sent: too many are waiting");
                }
            }
        }
    }

    /// Tells every call that the connection is lost.
    pub(super) fn lost(&self) {
        for shard in &self.shards {
            let mut guard = lock(shard);
            let open = guard.slots.iter_mut().filter_map(|slot| slot.call.as_mut());
            let wakers: Vec<_> = open
                .filter_map(|call| {
                    call.lost = true;
                    call.waker.take()
                })
                .collect();
            drop(guard);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn late(&self, from: &str) {
        if let Some(count) = self.counters.late.add() {
            tracing::debug!(count, "an answer came for a call that is over: {from}");
        }
    }

    /// Calls in flight, and slots that there are for them.
    pub(super) fn in_use(&self) -> (usize, usize) {
        self.shards.iter().map(lock).fold((0, 0), |(open, all), shard| {
            (open + shard.slots.iter().filter(|slot| slot.call.is_some()).count(), all + shard.slots.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use nylon_wire::GroupSubjects;

    const ID: CallId = CallId([1; 16]);

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

    fn table() -> (Arc<Slots>, Arc<Group>) {
        let subjects = GroupSubjects::new("nylon", "g").expect("names");
        let counters = Arc::<Counters>::default();
        let (behind, _) = mpsc::channel(1);
        (Slots::new(counters.clone(), behind), Group::new("g", subjects, counters))
    }

    fn token(waiting: &Waiting) -> String {
        waiting.reply_subject("", 1)
    }

    fn ack(id: CallId, worker: &str) -> Message {
        let mut frame = Vec::new();
        Ack { id, worker: worker.into() }.encode(&mut frame).expect("encode");
        message(frame.into(), None)
    }

    #[test]
    fn an_answer_that_comes_too_late_finds_nobody_and_leaves_nothing() {
        let (slots, group) = table();
        let first = slots.open(ID, &group);
        let late = token(&first);
        drop(first);
        let second = slots.open(ID, &group);
        assert_ne!(late, token(&second));
        slots.deliver(&late, ack(ID, "w1"));
        slots.deliver(&late, message(Bytes::from_static(b"late"), None));
        assert!(second.event().now_or_never().is_none());
        assert_eq!(slots.counters.counts().late, 2);
        slots.deliver(&token(&second), message(Bytes::new(), Some(StatusCode::NO_RESPONDERS)));
        assert!(matches!(second.event().now_or_never(), Some(Event::NoResponders(1))));
        drop(second);
        assert_eq!(slots.in_use(), (0, 1));
    }

    #[test]
    fn an_ack_is_remembered_and_wakes_only_a_call_that_asked_for_it() {
        let (slots, group) = table();
        let waiting = slots.open(ID, &group);
        slots.deliver(&token(&waiting), ack(ID, "w1"));
        assert!(waiting.event().now_or_never().is_none());
        assert_eq!(waiting.taken_by().expect("taken").name(), "w1");
        waiting.watch();
        slots.deliver(&token(&waiting), ack(ID, "w1"));
        assert!(matches!(waiting.event().now_or_never(), Some(Event::Taken(1))));
        assert!(waiting.event().now_or_never().is_none());
    }

    #[test]
    fn an_ack_of_an_earlier_attempt_does_not_displace_a_later_one() {
        let (slots, group) = table();
        let waiting = slots.open(ID, &group);
        slots.deliver(&waiting.reply_subject("", 2), ack(ID, "w2"));
        slots.deliver(&waiting.reply_subject("", 1), ack(ID, "w1"));
        assert_eq!(waiting.taken_by().expect("taken").name(), "w2");
    }

    #[test]
    fn what_names_another_call_or_no_worker_is_ignored_and_counted() {
        let (slots, group) = table();
        let waiting = slots.open(ID, &group);
        slots.deliver(&token(&waiting), ack(CallId([2; 16]), "w1"));
        slots.deliver(&token(&waiting), ack(ID, "w.*"));
        slots.deliver("nonsense", message(Bytes::new(), None));
        assert!(waiting.taken_by().is_none() && waiting.event().now_or_never().is_none());
        assert_eq!(slots.counters.counts().misbehaviour, 3);
    }

    #[test]
    fn a_flood_for_one_call_is_bounded() {
        let (slots, group) = table();
        let waiting = slots.open(ID, &group);
        (0..100).for_each(|_| slots.deliver(&token(&waiting), message(Bytes::new(), None)));
        let taken = std::iter::from_fn(|| waiting.event().now_or_never()).count();
        assert_eq!(taken, MAX_WAITING);
        assert_eq!(slots.counters.counts().misbehaviour, 100 - MAX_WAITING as u64);
    }

    #[test]
    fn a_call_counts_in_the_load_of_the_worker_that_has_it() {
        let (slots, group) = table();
        let (one, two) = (group.peer("w1").expect("id"), group.peer("w2").expect("id"));
        let loads = || [&one, &two].map(|peer| peer.standing(0, 0).in_flight);
        let waiting = slots.open(ID, &group);
        waiting.sending(Some(&one));
        assert_eq!(loads(), [1, 0]);
        slots.deliver(&token(&waiting), ack(ID, "w2"));
        slots.deliver(&token(&waiting), ack(ID, "w2"));
        assert_eq!(loads(), [0, 1]);
        drop(waiting);
        assert_eq!(loads(), [0, 0]);
    }

    #[test]
    fn a_lost_connection_is_told_to_every_call_after_what_came_before() {
        let (slots, group) = table();
        let calls = [slots.open(ID, &group), slots.open(ID, &group)];
        slots.deliver(&token(&calls[0]), message(Bytes::new(), Some(StatusCode::NO_RESPONDERS)));
        slots.lost();
        assert!(matches!(calls[0].event().now_or_never(), Some(Event::NoResponders(1))));
        for call in &calls {
            assert!(matches!(call.event().now_or_never(), Some(Event::Lost)));
            assert!(call.event().now_or_never().is_none());
        }
    }
}
