//! Endpoints that are found sick by asking them: so many bad answers in a row, and it is; so many good ones, and it is
//! not. In between it stays what it is, so that one lost answer changes nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What the checks of one endpoint came to. One task writes it, everybody reads it.
#[derive(Debug, Default)]
pub(super) struct Health {
    sick: AtomicBool,
    /// Answers in a row that speak for the other state.
    against: AtomicU32,
    /// When the next check is due, on the [`super::clock`].
    next: AtomicU64,
}

/// What has become of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Sick,
    Well,
}

impl Health {
    pub(super) fn is_sick(&self) -> bool {
        self.sick.load(Relaxed)
    }

    pub(super) fn next_check(&self) -> u64 {
        self.next.load(Relaxed)
    }

    pub(super) fn check_at(&self, next: u64) {
        self.next.store(next, Relaxed);
    }

    /// Takes an answer in, good or bad.
    pub(super) fn record(&self, good: bool, healthy: u32, unhealthy: u32) -> Option<Change> {
        let sick = self.is_sick();
        if good != sick {
            self.against.store(0, Relaxed);
            return None;
        }
        let against = self.against.load(Relaxed) + 1;
        if against < if sick { healthy } else { unhealthy } {
            self.against.store(against, Relaxed);
            return None;
        }
        self.against.store(0, Relaxed);
        self.sick.store(!sick, Relaxed);
        Some(if sick { Change::Well } else { Change::Sick })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_changes_only_after_so_many_answers_in_a_row(
            answers in prop::collection::vec(any::<bool>(), 0..60),
            healthy in 1_u32..5,
            unhealthy in 1_u32..5,
        ) {
            let health = Health::default();
            for (at, good) in answers.iter().enumerate() {
                let before = health.is_sick();
                let change = health.record(*good, healthy, unhealthy);
                prop_assert_eq!(change.is_some(), before != health.is_sick());
                let needed = if before { healthy } else { unhealthy } as usize;
                let row = answers[..=at].iter().rev().take_while(|answer| *answer == good).count();
                if change.is_some() {
                    prop_assert!(row >= needed && *good == before);
                } else {
                    // It cannot have stayed what it is through so many answers against that.
                    prop_assert!(row < needed || *good != before);
                }
            }
        }
    }

    #[test]
    fn it_is_told_once_per_change() {
        let health = Health::default();
        let told: Vec<_> = [false, false, false, true, true].map(|good| health.record(good, 2, 2)).to_vec();
        assert_eq!(told, [None, Some(Change::Sick), None, None, Some(Change::Well)]);
    }
}
