//! Where sessions are found by their number.
//!
//! A number (sid) is the place of a session and how often that place was let, so a late call for a session that is over
//! finds that the number is not there any more. Places are found without a lock; each has a small mutex of its own,
//! which is held for the time of one look and never while the library is called, so two sessions never wait for each
//! other. A place that was left is let again after all others that are free: a number comes back after millions of
//! sessions.

use super::session::SessionState;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Bits of a number that say the place; the 13 above them say how often it was let.
const INDEX_BITS: u32 = 18;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// The largest number of times; a number stays below 2³¹.
const MAX_LETS: u32 = (1 << (31 - INDEX_BITS)) - 1;
/// Places that are made at once.
const CHUNK_BITS: u32 = 9;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNKS: usize = 1 << (INDEX_BITS - CHUNK_BITS);
/// Places that are free at any time, so that a number is not soon used again.
const MIN_FREE: usize = 2048;

/// Set in [`Slot::flights`] once the session is to be closed.
const CLOSING: u32 = 1 << 31;

/// One place.
#[repr(align(64))]
pub(super) struct Slot {
    place: Mutex<Place>,
    /// Calls into the library for the session that are under way, and [`CLOSING`].
    flights: AtomicU32,
}

/// Who is there.
#[derive(Default)]
pub(super) struct Place {
    /// The number of the session that is here, or was last; 0 at first.
    pub(super) sid: u32,
    pub(super) session: Option<SessionState>,
}

struct Slab {
    chunks: [OnceLock<Box<[Slot]>>; CHUNKS],
    free: Mutex<Free>,
}

/// Places to let, the one that was left longest ago first.
struct Free {
    queue: VecDeque<u32>,
    chunks: usize,
}

static SLAB: Slab = Slab {
    chunks: [const { OnceLock::new() }; CHUNKS],
    free: Mutex::new(Free { queue: VecDeque::new(), chunks: 0 }),
};

// Nothing that runs under these locks can panic half-way through a change.
fn free() -> MutexGuard<'static, Free> {
    SLAB.free.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(index: u32) -> Option<&'static Slot> {
    SLAB.chunks[(index >> CHUNK_BITS) as usize].get()?.get(index as usize % CHUNK)
}

/// Lets a place to `session`. `None` where all of them are taken.
pub(super) fn open(session: SessionState) -> Option<(u32, &'static Slot)> {
    let index = {
        let mut free = free();
        if free.queue.len() < MIN_FREE && free.chunks < CHUNKS {
            let slots = (0..CHUNK).map(|_| Slot { place: Mutex::default(), flights: AtomicU32::new(0) });
            let _ = SLAB.chunks[free.chunks].set(slots.collect());
            let first = (free.chunks << CHUNK_BITS) as u32;
            free.queue.extend(first..first + CHUNK as u32);
            free.chunks += 1;
        }
        free.queue.pop_front()?
    };
    let slot = place(index)?;
    let mut place = slot.lock();
    let lets = place.sid >> INDEX_BITS;
    let sid = (if lets < MAX_LETS { lets + 1 } else { 1 }) << INDEX_BITS | index;
    (place.sid, place.session) = (sid, Some(session));
    drop(place);
    Some((sid, slot))
}

/// The place that a number names, whoever is there now.
pub(super) fn find(sid: u32) -> Option<&'static Slot> {
    if sid >> 31 != 0 || sid >> INDEX_BITS == 0 {
        return None;
    }
    place(sid & INDEX_MASK)
}

/// All places, let or not.
pub(super) fn all() -> impl Iterator<Item = &'static Slot> {
    SLAB.chunks.iter().map_while(OnceLock::get).flat_map(|chunk| chunk.iter())
}

impl Slot {
    /// Who is there. Held for a look, never while the library is called.
    pub(super) fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call into the library begins. Under the lock, which shows that the session is not closing.
    pub(super) fn take_off(&self) {
        self.flights.fetch_add(1, Ordering::Relaxed);
    }

    /// It is over. True for the last one of a session that is to be closed: its caller closes it.
    #[must_use]
    pub(super) fn land(&self) -> bool {
        self.flights.fetch_sub(1, Ordering::AcqRel) == CLOSING | 1
    }

    /// No call begins any more. Under the lock. True if none is under way either: the caller closes the session.
    #[must_use]
    pub(super) fn begin_closing(&self) -> bool {
        self.flights.fetch_or(CLOSING, Ordering::AcqRel) == 0
    }

    /// Leaves the place, once the library was told.
    pub(super) fn leave(&self) {
        let (sid, session) = {
            let mut place = self.lock();
            self.flights.store(0, Ordering::Relaxed);
            (place.sid, place.session.take())
        };
        drop(session);
        free().queue.push_back(sid & INDEX_MASK);
    }
}
