//! The arithmetic of a limit: a token bucket as one number, the generic cell rate algorithm (ITU-T I.371).
//!
//! What is kept of a bucket is the moment at which it is full again. A request pushes that moment on by the time that
//! one token takes to come back, and is refused where it would then lie further away than a whole bucket takes. So a
//! bucket is eight bytes, needs nobody who refills it, and one whose moment has passed is the same as none at all.

use std::time::Duration;

/// How fast tokens come back, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Limit {
    /// Nanoseconds in which one token comes back; never 0.
    interval: u64,
    /// Tokens of a full bucket; never 0.
    burst: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Tokens that are left.
    pub(crate) remaining: u64,
    /// When the next token is there; zero where there is one.
    pub(crate) retry_after: Duration,
    /// When the bucket is full again.
    pub(crate) full_after: Duration,
}

impl Limit {
    /// `count` tokens in `period`, at most `burst` at once.
    pub(crate) fn new(count: u64, period: Duration, burst: u64) -> Limit {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Limit { interval: (period / count.max(1)).max(1), burst: burst.max(1) }
    }

    /// Nanoseconds in which one token comes back.
    pub(crate) fn interval(&self) -> u64 {
        self.interval
    }

    /// Tokens of a full bucket.
    pub(crate) fn burst(&self) -> u64 {
        self.burst
    }

    /// Nanoseconds in which an empty bucket is full again.
    pub(crate) fn window(&self) -> u64 {
        self.interval.saturating_mul(self.burst)
    }

    /// Takes a token at `now` from the bucket that is full again at `full_at`; both in nanoseconds of one clock.
    ///
    /// A moment further away than a whole bucket is taken for just that: another gateway's clock was ahead, or the limit
    /// was another then. Nobody is locked out for longer than the limit says.
    pub(crate) fn take(&self, full_at: &mut u64, now: u64) -> Decision {
        let window = self.window();
        let from = (*full_at).clamp(now, now.saturating_add(window));
        let next = from.saturating_add(self.interval);
        let ahead = next - now;
        let nanos = Duration::from_nanos;
        if ahead <= window {
            *full_at = next;
            Decision {
                allowed: true,
                remaining: (window - ahead) / self.interval,
                retry_after: nanos(self.interval.saturating_sub(window - ahead)),
                full_after: nanos(ahead),
            }
        } else {
            Decision {
                allowed: false,
                remaining: 0,
                retry_after: nanos(ahead - window),
                full_after: nanos(from - now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_the_rate() {
        let limit = Limit::new(10, Duration::from_secs(1), 5);
        let mut full_at = 0;
        let taken: Vec<_> = (0..6).map(|_| limit.take(&mut full_at, SECOND)).collect();
        let allowed: Vec<bool> = taken.iter().map(|decision| decision.allowed).collect();
        assert_eq!(allowed, [true, true, true, true, true, false]);
        let remaining: Vec<u64> = taken.iter().map(|decision| decision.remaining).collect();
        assert_eq!(remaining, [4, 3, 2, 1, 0, 0]);
        assert_eq!(taken[5].retry_after, Duration::from_millis(100));
        assert_eq!(taken[5].full_after, Duration::from_millis(500));
        assert!(limit.take(&mut full_at, SECOND + SECOND / 10).allowed, "one token is back");
        assert!(!limit.take(&mut full_at, SECOND + SECOND / 10).allowed, "and no second one");
    }

    #[test]
    fn a_moment_from_a_clock_far_ahead_locks_nobody_out_for_longer_than_a_bucket() {
        let limit = Limit::new(1, Duration::from_secs(1), 3);
        let mut full_at = u64::MAX;
        let decision = limit.take(&mut full_at, SECOND);
        assert!(!decision.allowed);
        assert_eq!(decision.retry_after, Duration::from_secs(1));
    }

    proptest! {
        /// Whenever requests come, in no stretch of time are more let through than the burst and what came back meanwhile.
        #[test]
        fn never_more_than_burst_and_rate(
            count in 1u64..1_000,
            burst in 1u64..100,
            gaps in prop::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let limit = Limit::new(count, Duration::from_secs(1), burst);
            let (mut now, mut full_at) = (SECOND, 0);
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap;
                let before = full_at;
                let decision = limit.take(&mut full_at, now);
                if decision.allowed {
                    passed.push(now);
                } else {
                    prop_assert_eq!(full_at, before, "a refused request costs nothing");
                    let mut copy = full_at;
                    let then = now + decision.retry_after.as_nanos() as u64;
                    prop_assert!(limit.take(&mut copy, then).allowed, "`retry_after` is true");
                    let mut copy = full_at;
                    prop_assert!(!limit.take(&mut copy, then - 1).allowed, "and not too late");
                }
            }
            for (index, start) in passed.iter().enumerate() {
                for (more, end) in passed[index..].iter().enumerate() {
                    let room = burst + (end - start) / limit.interval();
                    prop_assert!((more as u64) < room, "{} in {room}", more + 1);
                }
            }
        }
    }
}
