//! What happened on a connection that is out of the ordinary, counted in one place.
//!
//! A plain call counts nothing here: these numbers move when something was late, lost, full or wrong. Where one of
//! them also goes to the log it does so at its powers of two, so that a flood of anything costs a line or two.

use super::ledger::Ledger;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Counts one more, and gives the number where it is due in the log.
    pub(super) fn add(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        count.is_power_of_two().then_some(count)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a connection.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
            ledger: Ledger,
        }

        /// The counters of a connection at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Each by its name.
            pub(super) fn figures(self) -> serde_json::Value {
                serde_json::json!({ $(stringify!($name): self.$name,)* })
            }
        }

        impl Counters {
            /// Counts a frame that made no sense, or was not wanted.
            pub(super) fn misbehaved(&self, worker: &str, kind: &'static str, detail: &dyn Display) {
                self.misbehaviour.add();
                self.ledger.note(worker, kind, detail);
            }

            pub(super) fn counts(&self) -> Counts {
                Counts { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Calls that were sent once more because they may have been lost: each raised `attempt`.
    retries,
    /// Questions after a call that was taken and not answered.
    probes,
    /// Calls whose worker was gone or did not answer any more.
    deaths,
    /// Workers that fell silent and are taken for frozen until they are heard again.
    suspects,
    /// Answers of workers that had no room.
    busy,
    /// Calls that waited for a worker to have room.
    waits,
    /// Claims that were refused, because the call was another worker's.
    refusals,
    /// Answers to calls that are over: late, or twice.
    late,
    /// Frames that made no sense, or were not wanted.
    misbehaviour,
    /// Calls of `logging` that were kept while the broker was away.
    logging_kept,
    /// Calls of `logging` that were given up because the broker was away too long, or too many were kept.
    logging_dropped,
}
