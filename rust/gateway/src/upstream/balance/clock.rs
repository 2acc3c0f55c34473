//! Milliseconds since the process looked at the clock first, which fit into an atomic. 0 is no time at all.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now; never 0.
pub(in crate::upstream) fn now() -> u64 {
    millis(START.elapsed()) + 1
}

pub(in crate::upstream) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whole seconds from `now` to `until`, at least one: what a client is told to wait.
pub(super) fn seconds_until(until: u64, now: u64) -> u64 {
    until.saturating_sub(now).div_ceil(1000).max(1)
}
