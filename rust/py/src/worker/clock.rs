//! The worker's clock, and how it notices that it stood still.
//!
//! A worker that was stopped (SIGSTOP, a suspended machine, a handler that blocked the loop) is dead for its gateway
//! after a quarter of a second: its calls have gone to other workers meanwhile. When it goes on, it finds messages
//! that are older than they look. So the loop leaves a mark whenever it turns, and whoever is about to begin a call
//! looks at the distance from the last one: behind a gap, what had come before it must be claimed first.
//!
//! The clock is CLOCK_BOOTTIME where there is one. It is monotonic and, unlike CLOCK_MONOTONIC, goes on while the
//! machine is suspended, which is the longest kind of standing still. It cannot see a virtual machine that its
//! hypervisor stops together with its clocks; nothing inside that machine can.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// A gap of this length between two marks is a stall. A gateway waits 250 ms for an acknowledgement or the answer to a
/// probe; what is on its way counts for it too, hence less.
const STALL: Duration = Duration::from_millis(200);

/// A point of the worker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before everything.
    pub(crate) const START: Moment = Moment(0);

    /// Now.
    #[cfg(target_os = "linux")]
    pub(crate) fn now() -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The time since boot is never negative.
        Moment(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
    }

    /// Now.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now() -> Moment {
        use std::sync::OnceLock;
        use std::time::Instant;
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let since = FIRST.get_or_init(Instant::now).elapsed();
        Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// As a number, for Python to keep.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// What [`Moment::number`] gave.
    pub(crate) fn from_number(number: u64) -> Moment {
        Moment(number)
    }

    /// How long after `earlier` this is.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The marks of one worker's loop.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The last mark.
    beat: AtomicU64,
    /// The end of the last stall; 0 = none yet.
    resumed: AtomicU64,
    /// Messages of before the last stall may still be on their way through the socket.
    catching_up: AtomicBool,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        Watch {
            beat: AtomicU64::new(Moment::now().0),
            resumed: AtomicU64::new(0),
            catching_up: AtomicBool::new(false),
        }
    }

    /// The loop turns. Gives how long it stood still, if it did.
    pub(crate) fn beat(&self) -> Option<Duration> {
        let now = Moment::now();
        let gap = now.since(Moment(self.beat.load(SeqCst)));
        if gap <= STALL {
            self.beat.store(now.0, SeqCst);
            return None;
        }
        // In this order: whoever sees the new mark sees the stall too.
        self.resumed.store(now.0, SeqCst);
        self.catching_up.store(true, SeqCst);
        self.beat.store(now.0, SeqCst);
        Some(gap)
    }

    /// Since when a message that is read now has surely been here: if it has waited through a stall, from the start.
    pub(crate) fn received(&self) -> Moment {
        match self.catching_up.load(SeqCst) {
            true => Moment::START,
            false => Moment(self.beat.load(SeqCst)),
        }
    }

    /// Whether the loop has noticed a stall since `moment`. Enough right behind a mark, and costs no look at the clock.
    pub(crate) fn has_noticed_since(&self, moment: Moment) -> bool {
        moment.0 < self.resumed.load(SeqCst)
    }

    /// Whether there has been a stall since `moment`, noticed by the loop or not yet.
    pub(crate) fn has_stalled_since(&self, moment: Moment) -> bool {
        self.has_noticed_since(moment) || Moment::now().since(Moment(self.beat.load(SeqCst))) > STALL
    }

    /// The stall after which the socket may still hold old messages.
    pub(crate) fn unresolved(&self) -> Option<Moment> {
        self.catching_up.load(SeqCst).then(|| Moment(self.resumed.load(SeqCst)))
    }

    /// Everything that was sent before the end of `stall` has been read. Not so if there was a later one.
    pub(crate) fn caught_up(&self, stall: Moment) {
        if self.resumed.load(SeqCst) == stall.0 {
            self.catching_up.store(false, SeqCst);
        }
    }
}
