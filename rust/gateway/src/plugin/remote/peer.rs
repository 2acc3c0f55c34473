//! One worker as the calls see it: how loaded it is, whether it answers, whether it is full.
//!
//! Everything here is written as calls go by, and read only when one has to choose a worker itself. Loads are those
//! that this gateway knows of; a worker that others fill says `busy`.

use nylon_wire::Text;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A worker that has not said how many calls it runs at once.
const UNKNOWN_CAPACITY: u32 = 64;

/// One worker.
pub(super) struct Peer {
    pub(super) id: Text,
    /// The worker's own subject.
    pub(super) subject: String,
    /// Names the worker in the reply subjects of the roll.
    pub(super) number: u32,
    in_flight: AtomicU32,
    /// Calls that it runs at once, 0 while it has not said so.
    concurrency: AtomicU32,
    /// The last roll-call since which it was heard.
    heard: AtomicU32,
    suspect: AtomicBool,
    /// Until when it counts as full, in milliseconds of the group's clock.
    busy_until: AtomicU64,
}

impl Peer {
    pub(super) fn new(id: &str, subject: String, number: u32, roll: u32) -> Peer {
        Peer {
            id: Text::from(id),
            subject,
            number,
            in_flight: AtomicU32::new(0),
            concurrency: AtomicU32::new(0),
            heard: AtomicU32::new(roll),
            suspect: AtomicBool::new(false),
            busy_until: AtomicU64::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.id.as_str()
    }

    pub(super) fn announce(&self, concurrency: u32) {
        self.concurrency.store(concurrency, Ordering::Relaxed);
    }

    /// One call more; true when that fills it.
    pub(super) fn take(&self) -> bool {
        let load = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let concurrency = self.concurrency.load(Ordering::Relaxed);
        concurrency != 0 && load >= concurrency
    }

    /// One call less.
    pub(super) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// True if that is news.
    pub(super) fn set_suspect(&self, suspect: bool) -> bool {
        self.suspect.load(Ordering::Relaxed) != suspect
            && self.suspect.swap(suspect, Ordering::Relaxed) != suspect
    }

    /// Whether it was heard since that roll-call.
    pub(super) fn heard_since(&self, roll: u32) -> bool {
        self.heard.load(Ordering::Relaxed).wrapping_sub(roll) < u32::MAX / 2
    }

    pub(super) fn note_heard(&self, roll: u32) {
        self.heard.store(roll, Ordering::Relaxed);
    }

    pub(super) fn note_busy(&self, until: u64) {
        self.busy_until.store(until, Ordering::Relaxed);
    }

    /// What speaks for and against giving it a call, at `now` and after roll-call `roll`.
    pub(super) fn standing(&self, now: u64, roll: u32) -> Standing {
        let concurrency = self.concurrency.load(Ordering::Relaxed);
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        Standing {
            silent: !self.heard_since(roll),
            busy: self.busy_until.load(Ordering::Relaxed) > now,
            loaded: concurrency != 0 && in_flight >= concurrency,
            in_flight,
            capacity: if concurrency == 0 { UNKNOWN_CAPACITY } else { concurrency },
        }
    }
}

/// What speaks for and against giving a worker a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// It has not been heard since everybody was asked.
    pub(super) silent: bool,
    /// It said lately that it has no room.
    pub(super) busy: bool,
    /// The calls that this gateway knows of fill it.
    pub(super) loaded: bool,
    pub(super) in_flight: u32,
    /// Never 0.
    pub(super) capacity: u32,
}

impl Standing {
    /// Whether this one should get the call rather than `other`.
    fn beats(self, other: Standing) -> bool {
        let flags = |standing: Standing| (standing.silent, standing.loaded || standing.busy);
        // The smaller share of its capacity in use, compared without dividing.
        let load = |a: Standing, b: Standing| u64::from(a.in_flight) * u64::from(b.capacity);
        (flags(self), load(self, other)) < (flags(other), load(other, self))
    }
}

/// The index of the best one. Among equals it is the first from `turn` on, so that they take turns.
pub(super) fn least_loaded(standings: &[Standing], turn: usize) -> Option<usize> {
    let start = turn.checked_rem(standings.len())?;
    let order = (start..standings.len()).chain(0..start);
    order.reduce(|best, next| if standings[next].beats(standings[best]) { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing(in_flight: u32, capacity: u32) -> Standing {
        Standing { silent: false, busy: false, loaded: in_flight >= capacity, in_flight, capacity }
    }

    #[test]
    fn the_one_with_the_smaller_share_in_use_gets_the_call() {
        assert_eq!(least_loaded(&[standing(3, 10), standing(4, 100), standing(1, 2)], 0), Some(1));
        assert_eq!(least_loaded(&[], 7), None);
        let silent = Standing { silent: true, ..standing(0, 10) };
        assert_eq!(least_loaded(&[silent, standing(9, 10)], 0), Some(1), "silence speaks against it first");
        assert_eq!(least_loaded(&[silent, standing(10, 10)], 0), Some(1));
    }

    #[test]
    fn equals_take_turns() {
        let equals = [standing(1, 4); 3];
        let taken: Vec<_> = (0..6).map(|turn| least_loaded(&equals, turn)).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2)]);
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        (any::<bool>(), any::<bool>(), any::<u32>(), 1..=u32::MAX).prop_map(
            |(silent, busy, in_flight, capacity)| Standing { silent, busy, ..standing(in_flight, capacity) },
        )
    }

    proptest! {
        #[test]
        fn nobody_is_passed_over_for_a_worse_one(
            standings in prop::collection::vec(any_standing(), 1..20),
            turn in any::<usize>(),
        ) {
            let best = least_loaded(&standings, turn).expect("there is one");
            prop_assert!(standings.iter().all(|other| !other.beats(standings[best])));
        }
    }
}
