//! What workers did that the protocol does not allow, by worker and kind.
//!
//! Each pair goes to the log the first time and then at the powers of two of its count, so that a worker that floods
//! the gateway neither fills the log nor hides what another one does.

use super::connection::lock;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Mutex;

/// Pairs that are told apart; what is beyond is counted together.
const MAX_PAIRS: usize = 256;
/// A worker that is not known.
pub(super) const NOBODY: &str = "(unknown)";

/// The ledger of one connection.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    counts: Mutex<HashMap<(Box<str>, &'static str), u64>>,
}

impl Ledger {
    /// Notes one more; `kind` is what it was, `detail` what is known of this one.
    pub(super) fn note(&self, worker: &str, kind: &'static str, detail: &dyn Display) {
        let count = self.count(worker, kind);
        if count.is_power_of_two() {
            let detail: String = detail.to_string().chars().take(200).collect();
            tracing::warn!(worker, count, "a worker does not keep to the protocol: {kind}: {detail}");
        }
    }

    fn count(&self, worker: &str, kind: &'static str) -> u64 {
        let mut counts = lock(&self.counts);
        let known = counts.len() < MAX_PAIRS || counts.contains_key(&(worker.into(), kind));
        let key = if known { (worker.into(), kind) } else { (NOBODY.into(), "and others") };
        let count = counts.entry(key).or_default();
        *count += 1;
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_and_kind_counts_for_itself_and_the_whole_is_bounded() {
        let ledger = Ledger::default();
        assert_eq!((ledger.count("w1", "a"), ledger.count("w1", "a")), (1, 2));
        assert_eq!((ledger.count("w1", "b"), ledger.count("w2", "a")), (1, 1));
        for number in 0..10_000 {
            ledger.count(&format!("worker {number}"), "a");
        }
        assert_eq!(lock(&ledger.counts).len(), MAX_PAIRS + 1);
        assert_eq!(ledger.count("w1", "a"), 3);
    }
}
