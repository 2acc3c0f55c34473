//! The buckets of one process.
//!
//! All data-plane threads share them, in shards with a lock each that is held for one look-up. Their number is bounded.
//! A bucket that is full again is the same as none, so it makes room for another key; one that is not full is never
//! given away, or a client could fill the table with keys of its own making to get its empty bucket back full. Keys that
//! find no room share a fixed number of spare buckets instead: while the table is full, they are limited more strictly
//! and nobody less.

use super::gcra::{Decision, Limit};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Locks that many threads can hold at once.
const SHARDS: usize = 64;
/// A shard's spare buckets, of its room: one sixteenth.
const SPARE: usize = 16;

/// Buckets by key.
pub(crate) struct LocalBuckets {
    limit: Limit,
    /// Nobody knows how keys are spread, so nobody can choose some that fall together.
    hasher: RandomState,
    began: Instant,
    shards: Box<[Mutex<Shard>]>,
}

struct Shard {
    room: usize,
    /// When each bucket is full again, by the hash of its key: keys of any length cost the same, and two of them fall
    /// together once in 2^64.
    full_at: HashMap<u64, u64>,
    /// For keys that find no room.
    spare: Box<[u64]>,
    /// Before that moment no bucket can have become full that was not at the last look.
    look_again: u64,
}

impl LocalBuckets {
    /// Room for about `max_keys` buckets that are not full.
    pub(crate) fn new(limit: Limit, max_keys: usize) -> LocalBuckets {
        let room = max_keys.div_ceil(SHARDS);
        let shard = || Shard {
            room,
            full_at: HashMap::new(),
            spare: vec![0; room.div_ceil(SPARE)].into(),
            look_again: 0,
        };
        LocalBuckets {
            limit,
            hasher: RandomState::new(),
            began: Instant::now(),
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
        }
    }

    /// Takes a token from the bucket of `key`.
    pub(crate) fn take(&self, key: &[u8]) -> Decision {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_at(key, now)
    }

    fn take_at(&self, key: &[u8], now: u64) -> Decision {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[hash as usize % SHARDS];
        // A shard is changed by single stores only: nothing is ever half-done.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        self.limit.take(shard.bucket(hash, now), now)
    }
}

impl Shard {
    fn bucket(&mut self, hash: u64, now: u64) -> &mut u64 {
        if self.full_at.len() >= self.room && !self.full_at.contains_key(&hash) {
            self.sweep(now);
            if self.full_at.len() >= self.room {
                let spare = (hash >> 32) as usize % self.spare.len();
                return &mut self.spare[spare];
            }
        }
        self.full_at.entry(hash).or_insert(0)
    }

    /// Lets go of the buckets that are full again.
    fn sweep(&mut self, now: u64) {
        if now < self.look_again {
            return;
        }
        self.full_at.retain(|_, full_at| *full_at > now);
        // Most of what is left needs a while. A look at every request would cost a shard's length each.
        let mut moments: Vec<u64> = self.full_at.values().copied().collect();
        if !moments.is_empty() {
            let place = moments.len() / 16;
            self.look_again = *moments.select_nth_unstable(place).1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn buckets(max_keys: usize) -> LocalBuckets {
        LocalBuckets::new(Limit::new(1, Duration::from_secs(1), 3), max_keys)
    }

    fn keys(buckets: &LocalBuckets) -> usize {
        buckets.shards.iter().map(|shard| shard.lock().expect("no panic").full_at.len()).sum()
    }

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let buckets = buckets(65_536);
        for key in ["a", "b"] {
            let allowed = (0..5).filter(|_| buckets.take_at(key.as_bytes(), 0).allowed).count();
            assert_eq!(allowed, 3, "{key}");
        }
    }

    #[test]
    fn a_flood_of_keys_gives_nobody_a_full_bucket_back_and_takes_no_more_room() {
        let buckets = buckets(1024);
        let drained = |now| !buckets.take_at(b"mine", now).allowed;
        while !drained(0) {}
        for key in 0..100_000u32 {
            buckets.take_at(&key.to_be_bytes(), 0);
            assert!(key % 1000 != 0 || drained(0), "after {key} keys");
        }
        assert!(keys(&buckets) <= 1024);
        // In the spare buckets keys share, so they are let through less and not more.
        let allowed = (0..10_000u32).filter(|key| buckets.take_at(&(key + 200_000).to_be_bytes(), 0).allowed);
        assert!(allowed.count() <= 3 * 64, "no more than the spare buckets hold");
    }

    #[test]
    fn buckets_that_are_full_again_make_room() {
        let buckets = buckets(16_384);
        for round in 0..10u64 {
            let now = round * 4_000_000_000;
            // Fewer than there is room for, so that the shards' unequal shares do not matter.
            for key in 0..8_192u64 {
                let key = (round * 1_000_000 + key).to_be_bytes();
                assert!(buckets.take_at(&key, now).allowed, "round {round}");
            }
        }
        assert!(keys(&buckets) <= 16_384);
    }

    #[test]
    fn threads_together_get_no_more_than_one() {
        let buckets = LocalBuckets::new(Limit::new(1, Duration::from_secs(3600), 100), 1024);
        let count = || (0..200).filter(|_| buckets.take(b"key").allowed).count();
        let all: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(all, 100);
    }
}
