//! How the calls of a group ended and how long they took, for people who compare two versions.
//!
//! Plain counters, added to once per call from any data-plane thread. Times go into buckets of which each is a fifth
//! wider than the one before: enough to tell a p99 of 8 ms from one of 10, in a kilobyte.

use nylon_core::{FailureKind, Outcome};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Four to each power of two, up to an hour.
const BUCKETS: usize = 128;

/// The calls of one group.
pub(super) struct Tally {
    next: AtomicU64,
    end: AtomicU64,
    failed: [AtomicU64; FailureKind::ALL.len()],
    times: [AtomicU64; BUCKETS],
}

impl Default for Tally {
    fn default() -> Tally {
        let zero = || AtomicU64::new(0);
        Tally {
            next: zero(),
            end: zero(),
            failed: std::array::from_fn(|_| zero()),
            times: std::array::from_fn(|_| zero()),
        }
    }
}

impl Tally {
    /// Adds a call.
    pub(super) fn count(&self, outcome: &Outcome, took: Duration) {
        let counter = match outcome {
            Outcome::Next => &self.next,
            Outcome::End => &self.end,
            Outcome::Failed(failure) => {
                let kind = FailureKind::ALL.iter().position(|kind| *kind == failure.kind);
                &self.failed[kind.expect("all kinds are in the list of all")]
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.times[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts by outcome, and times in milliseconds; null while there was no call.
    pub(super) fn figures(&self) -> Value {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed: Map<String, Value> = FailureKind::ALL
            .iter()
            .zip(&self.failed)
            .filter(|(_, counter)| load(counter) > 0)
            .map(|(kind, counter)| (kind.name().to_owned(), load(counter).into()))
            .collect();
        let times: Vec<u64> = self.times.iter().map(load).collect();
        json!({
            "next": load(&self.next),
            "end": load(&self.end),
            "failed": failed,
            "p50_ms": quantile(&times, 0.5),
            "p99_ms": quantile(&times, 0.99),
        })
    }
}

/// The bucket of a time: its highest bit, and the two bits below that.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if micros < 4 {
        return micros as usize;
    }
    let highest = micros.ilog2() as usize;
    ((highest - 1) * 4 + ((micros >> (highest - 2)) & 3) as usize).min(BUCKETS - 1)
}

/// The first microsecond above a bucket.
fn end_of(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    if next <= 4 { next } else { (4 + next % 4) << (next / 4 - 1) }
}

/// The time in milliseconds within which this share of the calls ended, to a fifth.
fn quantile(times: &[u64], share: f64) -> Option<f64> {
    let all: u64 = times.iter().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut passed = 0;
    let found = times.iter().position(|count| {
        passed += count;
        passed >= wanted
    });
    found.filter(|_| all > 0).map(|bucket| end_of(bucket) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nylon_core::Failure;

    #[test]
    fn a_time_is_in_the_bucket_that_ends_less_than_a_third_above_it() {
        for micros in (0..10_000).chain([123_456, 3_599_999_999]) {
            let end = end_of(bucket(Duration::from_micros(micros)));
            assert!(end > micros && end <= micros + micros / 4 + 1, "{micros}: {end}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn figures_name_the_outcomes_that_there_were() {
        let tally = Tally::default();
        assert_eq!(tally.figures()["p99_ms"], Value::Null);
        for _ in 0..99 {
            tally.count(&Outcome::Next, Duration::from_millis(1));
        }
        let failure = Failure::new(FailureKind::TimedOut, "late");
        tally.count(&Outcome::Failed(failure), Duration::from_secs(1));
        let figures = tally.figures();
        assert_eq!((&figures["next"], &figures["end"]), (&99.into(), &0.into()));
        assert_eq!(figures["failed"], json!({"timed_out": 1}));
        assert!(figures["p50_ms"].as_f64() < Some(1.3) && figures["p99_ms"].as_f64() < Some(1.3));
    }
}
