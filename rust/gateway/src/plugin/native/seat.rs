//! What each data-plane thread does in a library at the moment, for the watchdog.
//!
//! Sitting down and getting up are two stores, so that every call can be watched. A seat has a session's number and when
//! its call is due; whose it is, the watchdog looks up.

use super::slab;
use crate::plugin::watchdog::{Look, STUCK_AFTER};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// For the watchdog.
pub(super) const LOOK: Look = Look { kind: "native", look };

/// What time is counted from, in quarters of a second: for a lifetime, in 32 bits.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The threads that have ever called a library.
static SEATS: Mutex<Vec<Weak<Seat>>> = Mutex::new(Vec::new());

#[derive(Default)]
pub(super) struct Seat {
    /// Above, when the call is due; below, its session's number. 0 while there is none.
    call: AtomicU64,
    /// The call that was told of.
    told: AtomicU64,
    thread: String,
}

fn seats() -> MutexGuard<'static, Vec<Weak<Seat>>> {
    SEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A seat for this thread.
pub(super) fn take() -> Arc<Seat> {
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let seat = Arc::new(Seat { thread, ..Seat::default() });
    let mut seats = seats();
    seats.retain(|seat| seat.strong_count() > 0);
    seats.push(Arc::downgrade(&seat));
    seat
}

fn quarters(moment: Instant) -> u64 {
    let since = moment.saturating_duration_since(*START);
    since.as_secs() * 4 + u64::from(since.subsec_nanos() / 250_000_000)
}

impl Seat {
    /// Runs a call into a library for a session, which is due at `due`.
    pub(super) fn during<R>(&self, sid: u32, due: Instant, call: impl FnOnce() -> R) -> R {
        let before = self.call.load(Ordering::Relaxed);
        self.call.store(quarters(due) << 32 | u64::from(sid), Ordering::Relaxed);
        let result = call();
        self.call.store(before, Ordering::Relaxed);
        result
    }
}

fn look() {
    let late = quarters(Instant::now()).saturating_sub(STUCK_AFTER.as_secs() * 4);
    let seats: Vec<Arc<Seat>> = seats().iter().filter_map(Weak::upgrade).collect();
    for seat in seats {
        let call = seat.call.load(Ordering::Relaxed);
        if call != 0 && call >> 32 < late && seat.told.swap(call, Ordering::Relaxed) != call {
            tell(&seat.thread, call as u32);
        }
    }
}

fn tell(thread: &str, sid: u32) {
    let Some(slot) = slab::find(sid) else { return };
    let place = slot.lock();
    let Some(state) = place.session.as_ref().filter(|_| place.sid == sid) else { return };
    let entry = state.entry.clone();
    let call = state.running.as_ref().map(|running| {
        (running.context.call().phase.name(), running.context.exchange().facts.id.to_string())
    });
    drop(place);
    let (phase, request) = call.unwrap_or_default();
    tracing::warn!(
        plugin = entry.mapped.origin().plugin,
        entry = &*entry.name,
        phase,
        request,
        thread,
        "a native library is stuck: its event_stream still runs, long after the phase's time-out, and keeps its thread, \
         which others need; it should return at once and go on in a thread of its own"
    );
}
