//! Requests that wait because each endpoint has as many as it may have.

use super::endpoint::Seat;
use nylon_config::plan::CircuitBreaker;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Where they wait.
#[derive(Debug, Default)]
pub(super) struct Gate {
    waiting: AtomicUsize,
    /// A place has become free. Whoever misses it has looked for one after it was there.
    freed: Notify,
}

/// Counts one that waits.
struct Waiting<'g>(&'g Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl Gate {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// One endpoint has a request less.
    pub(super) fn freed(&self) {
        if self.waiting() > 0 {
            self.freed.notify_one();
        }
    }

    /// Waits until `choose` finds a place. `None`: there are too many who wait, or it took too long.
    pub(super) async fn wait<E>(
        &self,
        breaker: &CircuitBreaker,
        choose: impl Fn() -> Option<Result<Seat, E>>,
    ) -> Option<Result<Seat, E>> {
        let wait = |waiting: usize| (waiting < breaker.max_pending).then_some(waiting + 1);
        self.waiting.fetch_update(SeqCst, SeqCst, wait).ok()?;
        let _counted = Waiting(self);
        let until = Instant::now() + breaker.pending_timeout;
        loop {
            let freed = self.freed.notified();
            if let Some(chosen) = choose() {
                // The word may have come for more than one place.
                self.freed();
                return Some(chosen);
            }
            timeout_at(until, freed).await.ok()?;
        }
    }
}
