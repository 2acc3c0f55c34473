//! When a certificate is obtained: the first time, for renewal, and after a failure.

use super::failure::{Failure, Kind};
use std::time::{Duration, SystemTime};

/// A certificate is renewed when one part of this many of its lifetime is left.
const LEFT: u32 = 3;
/// Renewals are spread over one part of this many of the lifetime before that.
const SPREAD: u32 = 30;
/// The longest that an authority is left alone because it asked for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest sleep: what is due is due by the wall clock, which may be set, and stands while a machine is suspended.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// When a certificate is renewed. `random` (0 to 1) keeps those that were issued together apart.
pub(super) fn renewal(not_before: SystemTime, not_after: SystemTime, random: f64) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    not_after - life / LEFT - (life / SPREAD).mul_f64(random)
}

/// When it is tried again after so many `failures` in a row, of which this is the last: with twice the pause each
/// time, up to a limit, of which a random part between half and all is taken. An authority that refuses counts
/// how often, so it is asked rarely.
pub(super) fn next_try(now: SystemTime, failures: u32, failure: &Failure, random: f64) -> SystemTime {
    let (first, longest) = match failure.kind {
        Kind::Broken => (Duration::from_secs(2), Duration::from_secs(600)),
        Kind::Refused => (Duration::from_secs(60), Duration::from_secs(6 * 3600)),
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    let pause = doubled.mul_f64(0.5 + random / 2.0);
    let asked = failure.not_before.map(|time| time.min(now + LONGEST_PAUSE) + first.mul_f64(random));
    (now + pause).max(asked.unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let from = SystemTime::UNIX_EPOCH;
        assert_eq!(renewal(from, from + DAY * 90, 0.0), from + DAY * 60);
        assert_eq!(renewal(from, from + DAY * 90, 1.0), from + DAY * 57);
        assert_eq!(renewal(from, from + DAY * 6, 0.0), from + DAY * 4);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_never_alike() {
        let now = SystemTime::UNIX_EPOCH;
        let pauses = |failure: &Failure, random| -> Vec<f32> {
            let pause =
                |n| next_try(now, n, failure, random).duration_since(now).expect("later").as_secs_f32();
            (1..=20).map(pause).collect()
        };
        let refused = Failure::refused("no");
        assert_eq!(pauses(&refused, 1.0)[..4], [60.0, 120.0, 240.0, 480.0]);
        assert_eq!(pauses(&refused, 0.0)[..4], [30.0, 60.0, 120.0, 240.0]);
        assert_eq!(pauses(&refused, 1.0)[19], 21_600.0);
        let broken = Failure::broken("no");
        assert_eq!(pauses(&broken, 1.0)[..2], [2.0, 4.0]);
        assert_eq!(pauses(&broken, 1.0)[19], 600.0);
    }

    #[test]
    fn an_authority_that_asks_for_a_pause_gets_it_within_reason() {
        let now = SystemTime::UNIX_EPOCH;
        let asked = |after| next_try(now, 1, &Failure::refused("no").not_before(Some(now + after)), 0.0);
        assert_eq!(asked(DAY), now + DAY);
        assert_eq!(asked(DAY * 3650), now + LONGEST_PAUSE);
        assert_eq!(asked(Duration::ZERO), now + Duration::from_secs(30));
    }
}
