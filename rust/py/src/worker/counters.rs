//! What a worker counts, for `$SRV.STATS` and the log.

use nylon_core::Failure;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub(crate) struct Counters {
    /// Calls that were taken.
    pub(crate) calls: AtomicU64,
    /// Calls that were answered `busy`.
    pub(crate) busy: AtomicU64,
    /// Calls that were here already, or had run.
    pub(crate) duplicates: AtomicU64,
    /// Questions of gateways whether a call is here.
    pub(crate) probes: AtomicU64,
    /// Replies that were sent again.
    pub(crate) repeated: AtomicU64,
    /// Calls that were claimed before they ran.
    pub(crate) claims: AtomicU64,
    /// Claimed calls that did not run: another worker has them, or nobody answered.
    pub(crate) denied: AtomicU64,
    /// Times that the worker stood still.
    pub(crate) stalls: AtomicU64,
    /// Messages that are no frame.
    pub(crate) malformed: AtomicU64,
    /// From arrival to answer, added up.
    pub(crate) nanoseconds: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Counters {
    /// A call that ended in a failure.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.failed.fetch_add(1, Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
    }

    /// The last failure, for `$SRV.STATS`.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All counts with their names.
    pub(crate) fn all(&self) -> [(&'static str, u64); 11] {
        [
            ("calls", self.calls.load(Relaxed)),
            ("failed", self.failed.load(Relaxed)),
            ("busy", self.busy.load(Relaxed)),
            ("duplicates", self.duplicates.load(Relaxed)),
            ("probes", self.probes.load(Relaxed)),
            ("repeated", self.repeated.load(Relaxed)),
            ("claims", self.claims.load(Relaxed)),
            ("denied", self.denied.load(Relaxed)),
            ("stalls", self.stalls.load(Relaxed)),
            ("malformed", self.malformed.load(Relaxed)),
            ("nanoseconds", self.nanoseconds.load(Relaxed)),
        ]
    }
}
