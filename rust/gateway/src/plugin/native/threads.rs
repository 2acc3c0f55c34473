//! The threads of a library's own that have called the gateway.
//!
//! Code that a thread may stand in must not go away. A library of version 2 promises that no thread of it is left when
//! its `shutdown` returns; of those that have ever called, this shows it.

use super::here::Here;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Threads that are remembered before those that have ended are looked for.
const MOST: usize = 4096;

/// One library's.
#[derive(Default)]
pub(super) struct Threads {
    known: Mutex<HashSet<i32>>,
}

impl Threads {
    /// Notes the thread that calls this. `self` is never moved.
    pub(super) fn note(&self, here: &Here) {
        let own = std::ptr::from_ref(self).addr();
        if here.noted.replace(own) != own {
            let mut known = self.known();
            if known.len() >= MOST {
                known.retain(|thread| lives(*thread));
            }
            known.insert(own_number());
        }
    }

    /// Waits until none of them lives. False: one still does.
    pub(super) fn wait(&self, until: Instant) -> bool {
        loop {
            let mut known = self.known();
            known.retain(|thread| lives(*thread));
            if known.is_empty() {
                return true;
            }
            drop(known);
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's number of this thread.
#[cfg(target_os = "linux")]
fn own_number() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Elsewhere none can be looked for, so all are taken to live.
#[cfg(not(target_os = "linux"))]
fn own_number() -> i32 {
    0
}

/// Whether a thread of this process has this number. Where nothing tells, it lives.
fn lives(thread: i32) -> bool {
    let tasks = Path::new("/proc/self/task");
    tasks.join(thread.to_string()).exists() || !tasks.exists()
}
