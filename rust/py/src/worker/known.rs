//! What the worker knows of calls by their ids: those that are here, and those that have run, with their replies for a
//! while.
//!
//! A gateway whose reply got lost asks for it again, and one that doubts sends the call again: neither may run it a
//! second time. This is on every call's way, so it costs two look-ups in one table, and a copy of the reply to the
//! end of a buffer. Nothing has a timer: ids stand in the order in which they ended, replies in segments that are
//! dropped as wholes, and both are looked at when something is added, and by the tick.

use super::clock::Moment;
use nylon_wire::CallId;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long a reply is kept.
const KEEP_REPLY: Duration = Duration::from_secs(2);
/// Bytes of replies that are kept at most.
const MAX_REPLIES: usize = 8 << 20;
/// A segment of small replies. A larger reply has one of its own.
const SEGMENT: usize = 64 << 10;
/// How long an id is kept.
const KEEP_ID: Duration = Duration::from_secs(30);
/// Ids of calls that have run, at most: five seconds' worth of them, a phase's usual time, at 26,000 a second. More of
/// them would no longer fit into a processor's caches, which each call would pay for.
const MAX_IDS: usize = 1 << 17;
/// Ids that one tick forgets at most, so that it stays short: more than a worker can add between two.
const FORGET_AT_ONCE: usize = 1 << 13;

/// What is known of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    Unknown,
    /// It is here: it runs, or waits for its turn, a body or a grant.
    Here,
    /// It has run.
    Ended(Option<Vec<u8>>),
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Here,
    Ended { segment: u32, start: u32, length: u32 },
}

/// The calls of one worker.
#[derive(Debug, Default)]
pub(crate) struct KnownCalls {
    places: HashMap<CallId, Place, foldhash::fast::RandomState>,
    ended: VecDeque<(CallId, Moment)>,
    replies: Replies,
}

impl KnownCalls {
    /// Notes that a call has come, if nothing was known of it. Gives what was known.
    pub(crate) fn enter(&mut self, id: CallId) -> Known {
        match self.places.entry(id) {
            Entry::Vacant(vacant) => {
                vacant.insert(Place::Here);
                Known::Unknown
            }
            Entry::Occupied(occupied) => self.replies.known(*occupied.get()),
        }
    }

    /// What is known of a call.
    pub(crate) fn look(&self, id: CallId) -> Known {
        self.places.get(&id).map_or(Known::Unknown, |place| self.replies.known(*place))
    }

    /// A call that was here has not run, and may come again.
    pub(crate) fn leave(&mut self, id: CallId) {
        if let Entry::Occupied(occupied) = self.places.entry(id)
            && matches!(occupied.get(), Place::Here)
        {
            occupied.remove();
        }
    }

    /// A call that was here has ended with this reply.
    pub(crate) fn end(&mut self, id: CallId, reply: &[u8], now: Moment) {
        let Some(place @ Place::Here) = self.places.get_mut(&id) else { return };
        let (segment, start, length) = self.replies.keep(reply, now);
        *place = Place::Ended { segment, start, length };
        self.ended.push_back((id, now));
        // One comes, so at most two go: no call pays for many others.
        let crowded = |ended: usize| ended > MAX_IDS;
        for _ in 0..2 {
            if !self.forget_oldest(|when, ended| crowded(ended) || now.since(when) > KEEP_ID) {
                break;
            }
        }
    }

    fn forget_oldest(&mut self, over: impl Fn(Moment, usize) -> bool) -> bool {
        match self.ended.front() {
            Some((id, when)) if over(*when, self.ended.len()) => {
                self.places.remove(id);
                self.ended.pop_front();
                true
            }
            _ => false,
        }
    }

    /// Forgets what is old enough.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.replies.expire(now);
        for _ in 0..FORGET_AT_ONCE {
            if !self.forget_oldest(|when, _| now.since(when) > KEEP_ID) {
                break;
            }
        }
    }

    /// While the broker is away nobody can ask for a reply, so their time does not count; it begins when it is back.
    pub(crate) fn hold(&mut self, held: bool, now: Moment) {
        self.replies.hold(held, now);
    }
}

/// The replies in the order in which they were sent.
#[derive(Debug, Default)]
struct Replies {
    segments: VecDeque<Segment>,
    /// The number of the first segment; it wraps after 2^32 of them, long after their ids are gone.
    first: u32,
    /// Bytes of all segments.
    size: usize,
    spare: Option<Vec<u8>>,
    held: bool,
}

#[derive(Debug)]
struct Segment {
    data: Vec<u8>,
    /// When the last reply was added.
    newest: Moment,
}

impl Replies {
    fn known(&self, place: Place) -> Known {
        let Place::Ended { segment, start, length } = place else { return Known::Here };
        let reply = (length > 0).then(|| {
            let segment = self.segments.get(segment.wrapping_sub(self.first) as usize)?;
            segment.data.get(start as usize..start as usize + length as usize).map(<[u8]>::to_vec)
        });
        Known::Ended(reply.flatten())
    }

    /// Adds a reply; gives the number of its segment, where it starts there, and its length: 0 if it is not kept.
    fn keep(&mut self, reply: &[u8], now: Moment) -> (u32, u32, u32) {
        if reply.is_empty() || reply.len() > MAX_REPLIES {
            return (0, 0, 0);
        }
        let fits = self.segments.back().is_some_and(|s| s.data.len() + reply.len() <= s.data.capacity());
        if !fits {
            let size = reply.len().max(SEGMENT);
            self.expire(now);
            while self.size + size > MAX_REPLIES {
                self.drop_first();
            }
            // The last one that was dropped is warm, and of the usual size.
            let data = match self.spare.take() {
                Some(spare) if spare.capacity() >= size => spare,
                _ => Vec::with_capacity(size),
            };
            self.size += data.capacity();
            self.segments.push_back(Segment { data, newest: now });
        }
        let number = self.first.wrapping_add(self.segments.len() as u32).wrapping_sub(1);
        let Some(segment) = self.segments.back_mut() else { return (0, 0, 0) };
        let start = segment.data.len();
        segment.data.extend_from_slice(reply);
        segment.newest = now;
        // Both are at most MAX_REPLIES.
        (number, start as u32, reply.len() as u32)
    }

    fn drop_first(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.size -= segment.data.capacity();
            self.first = self.first.wrapping_add(1);
            let mut data = segment.data;
            if data.capacity() == SEGMENT {
                data.clear();
                self.spare = Some(data);
            }
        }
    }

    fn expire(&mut self, now: Moment) {
        while !self.held && self.segments.front().is_some_and(|s| now.since(s.newest) > KEEP_REPLY) {
            self.drop_first();
        }
    }

    fn hold(&mut self, held: bool, now: Moment) {
        if self.held && !held {
            self.segments.iter_mut().for_each(|segment| segment.newest = now);
        }
        self.held = held;
    }
}
