//! Endpoints that are found sick by what they answer: after so many failures in a row one is left alone for a while,
//! and comes back by itself. If it fails again before it was well for as long as it was left alone, the next time is
//! twice as long.

use super::clock;
use nylon_config::plan::PassiveHealth;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What one endpoint's answers came to.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    /// Failures in a row.
    failures: AtomicU32,
    /// Until when it is left alone, on the [`clock`]; 0 is not.
    until: AtomicU64,
    /// How long it was the last time.
    length: AtomicU64,
    /// When that was over.
    ended: AtomicU64,
}

impl Ejection {
    /// Until when it is left alone, or was and nobody has noticed yet that this is over.
    pub(super) fn until(&self) -> u64 {
        self.until.load(Relaxed)
    }

    /// It answered well.
    pub(super) fn succeeded(&self) {
        // Mostly nothing is to be written to what all threads read.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// It failed: whether so often that it should be left alone.
    pub(super) fn failed(&self, settings: &PassiveHealth) -> bool {
        self.failures.fetch_add(1, Relaxed) + 1 >= settings.consecutive_failures
    }

    /// Leaves it alone from `now` on: for how long. Only one thread at a time may say so.
    pub(super) fn begin(&self, now: u64, settings: &PassiveHealth) -> Duration {
        let (length, ended) = (self.length.load(Relaxed), self.ended.load(Relaxed));
        let soon = ended != 0 && now < ended.saturating_add(length);
        let (first, most) = (clock::millis(settings.ejection), clock::millis(settings.max_ejection));
        let length = if soon { length.saturating_mul(2).clamp(first, most.max(first)) } else { first };
        self.failures.store(0, Relaxed);
        self.length.store(length, Relaxed);
        self.until.store(now.saturating_add(length), Relaxed);
        Duration::from_millis(length)
    }

    /// Whether its time was over by `now`, and this call is the first that notices.
    pub(super) fn ends(&self, now: u64) -> bool {
        let until = self.until.load(Relaxed);
        let over = until != 0 && until <= now;
        let first = over && self.until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok();
        if first {
            self.ended.store(until, Relaxed);
        }
        first
    }
}

/// Whether one more of `count` endpoints may be left alone, of which `ejected` are already and `others` would remain.
pub(super) fn may_eject(count: usize, ejected: usize, others: usize, settings: &PassiveHealth) -> bool {
    let percent = usize::try_from(settings.max_ejected_percent).unwrap_or(100);
    others > 0 && ejected < (count * percent / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(max_ejected_percent: u32) -> PassiveHealth {
        PassiveHealth {
            consecutive_failures: 3,
            ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(10),
            max_ejected_percent,
        }
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let (ejection, settings) = (Ejection::default(), settings(50));
        assert_eq!([ejection.failed(&settings), ejection.failed(&settings)], [false, false]);
        ejection.succeeded();
        assert_eq!([(); 3].map(|()| ejection.failed(&settings)), [false, false, true]);
    }

    #[test]
    fn the_time_grows_while_it_does_not_help_and_starts_anew_after() {
        let (ejection, settings) = (Ejection::default(), settings(50));
        let mut now = 1;
        let mut lengths = Vec::new();
        for _ in 0..6 {
            let length = ejection.begin(now, &settings);
            lengths.push(length.as_secs());
            now += clock::millis(length);
            assert!(!ejection.ends(now - 1) && ejection.ends(now) && !ejection.ends(now), "it is told once");
        }
        assert_eq!(lengths, [1, 2, 4, 8, 10, 10]);
        now += 10_000;
        assert_eq!(ejection.begin(now, &settings).as_secs(), 1);
    }

    proptest! {
        #[test]
        fn never_all_and_never_more_than_the_part(count in 1_usize..50, percent in 1_u32..=100) {
            let settings = settings(percent);
            let mut ejected = 0;
            while may_eject(count, ejected, count - ejected - 1, &settings) {
                ejected += 1;
            }
            prop_assert!(ejected < count);
            prop_assert!(ejected <= (count * percent as usize / 100).max(1));
            prop_assert!(count == 1 || ejected > 0);
        }
    }
}
