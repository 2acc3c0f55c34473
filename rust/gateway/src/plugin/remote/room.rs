//! Calls that wait for a worker to have room, and how they learn of it.
//!
//! Whoever waited longest is woken first, by a call of this gateway that is over. Room that others make is not seen,
//! so nobody waits for long without asking.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Calls that wait for a worker to have room.
#[derive(Default)]
pub(super) struct Room {
    waiting: AtomicUsize,
    pub(super) freed: Notify,
}

impl Room {
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Counts one that waits, until the value is dropped.
    pub(super) fn wait(&self) -> impl Drop + '_ {
        struct Waiter<'a>(&'a Room);
        impl Drop for Waiter<'_> {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(self)
    }

    /// A worker has room for one more.
    pub(super) fn free_one(&self) {
        if self.is_awaited() {
            self.freed.notify_one();
        }
    }
}
