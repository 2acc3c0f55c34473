//! Where sessions are found by their number.
//!
//! A number (sid) is the place of a session and how often that place was let, so a late call for a session that is over
//! finds that the number is not there any more. Places are found without a lock; each has a small mutex of its own,
//! which is held for the time of one look and never while the library is called, so two sessions never wait for each
//! other. A place that was left is let again after all others that its thread has free: a number comes back after
//! millions of sessions.

use super::here::here;
use super::session::SessionState;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Bits of a number that say the place; the 13 above them say how often it was let.
const INDEX_BITS: u32 = 18;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// The largest number of times; a number stays below 2³¹.
const MAX_LETS: u32 = (1 << (31 - INDEX_BITS)) - 1;
/// Places that are made at once, and that a thread takes at once.
const CHUNK_BITS: u32 = 9;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNKS: usize = 1 << (INDEX_BITS - CHUNK_BITS);
/// Free places that a thread goes through before it uses one again, as long as there are so many.
const MIN_FREE: usize = 1024;
/// Free places that a thread keeps to itself.
const MAX_FREE: usize = 4 * MIN_FREE;

/// One place.
#[repr(align(64))]
pub(super) struct Slot {
    place: Mutex<Place>,
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

/// Places to let that no thread has for itself, the one that was left longest ago first.
struct Free {
    queue: VecDeque<u32>,
    chunks: usize,
}

static SLAB: Slab = Slab {
    chunks: [const { OnceLock::new() }; CHUNKS],
    free: Mutex::new(Free { queue: VecDeque::new(), chunks: 0 }),
};

/// Places to let that one thread has for itself, so that threads which open sessions seldom meet.
#[derive(Default)]
pub(super) struct OwnFree(RefCell<VecDeque<u32>>);

impl OwnFree {
    /// None yet.
    pub(super) const fn none() -> OwnFree {
        OwnFree(RefCell::new(VecDeque::new()))
    }

    /// The one that was left longest ago.
    fn next(&self) -> Option<u32> {
        let mut own = self.0.borrow_mut();
        if own.len() < MIN_FREE {
            free().give(&mut own);
        }
        own.pop_front()
    }

    /// Keeps a place that was left. One that opens no sessions, or has enough, leaves it to the others.
    fn put(&self, index: u32) {
        let mut own = self.0.borrow_mut();
        if own.capacity() > 0 && own.len() < MAX_FREE {
            own.push_back(index);
        } else {
            free().queue.push_back(index);
        }
    }
}

impl Drop for OwnFree {
    fn drop(&mut self) {
        free().queue.extend(self.0.get_mut().drain(..));
    }
}

impl Free {
    /// Gives what a thread takes at once, as far as there is so much.
    fn give(&mut self, to: &mut VecDeque<u32>) {
        while self.queue.len() < CHUNK && self.chunks < CHUNKS {
            let slots = (0..CHUNK).map(|_| Slot { place: Mutex::default() });
            // Nobody else makes chunks: this is under the lock.
            let _ = SLAB.chunks[self.chunks].set(slots.collect());
            let first = (self.chunks << CHUNK_BITS) as u32;
            self.queue.extend(first..first + CHUNK as u32);
            self.chunks += 1;
        }
        let given = self.queue.len().min(CHUNK);
        to.extend(self.queue.drain(..given));
    }
}

// Nothing that runs under these locks can panic half-way through a change.
fn free() -> MutexGuard<'static, Free> {
    SLAB.free.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(index: u32) -> Option<&'static Slot> {
    SLAB.chunks[(index >> CHUNK_BITS) as usize].get()?.get(index as usize % CHUNK)
}

/// Lets a place to `session`. `None` where all of them are taken.
pub(super) fn open(session: SessionState) -> Option<(u32, &'static Slot)> {
    let index = here(|here| here.free.next())?;
    let slot = place(index)?;
    let mut place = slot.lock();
    let lets = place.sid >> INDEX_BITS;
    let sid = (if lets < MAX_LETS { lets + 1 } else { 1 }) << INDEX_BITS | index;
    (place.sid, place.session) = (sid, Some(session));
    drop(place);
    Some((sid, slot))
}

/// Lets the place of a session again that has left it.
pub(super) fn leave(sid: u32) {
    here(|here| here.free.put(sid & INDEX_MASK));
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
}
