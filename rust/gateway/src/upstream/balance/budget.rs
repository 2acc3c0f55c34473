//! How many requests may be sent once more: a share of all, so that a service that fails gets a little more to do, and
//! not several times as much, just when it can do the least.

use std::sync::atomic::{AtomicI64, Ordering};

/// Retries that may be saved up. A service begins with them: what happens to the few that have few requests is no storm.
const MOST: i64 = 100;
/// What one retry costs, in hundredths, as the percentage counts.
const PRICE: i64 = 100;

/// What is left to be spent on retries.
#[derive(Debug)]
pub(super) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicI64::new(MOST * PRICE))
    }
}

impl Budget {
    /// A request has come, which earns `percent` of a retry.
    pub(super) fn earn(&self, percent: u32) {
        if self.0.load(Ordering::Relaxed) < MOST * PRICE {
            // Threads that earn at once may go a little over it, which the next spending takes back.
            self.0.fetch_add(i64::from(percent), Ordering::Relaxed);
        }
    }

    /// Whether one more retry may be made; it is paid for then.
    pub(super) fn spend(&self) -> bool {
        let pay = |left: i64| (left >= PRICE).then(|| left.min(MOST * PRICE) - PRICE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn retries_stay_under_their_share(percent in 0_u32..200, requests in 0_i64..2000) {
            let budget = Budget::default();
            let mut retries = 0;
            for _ in 0..requests {
                budget.earn(percent);
                // Each wants to be repeated as often as it may.
                while budget.spend() {
                    retries += 1;
                }
            }
            // The first finds the budget full.
            prop_assert!(retries <= MOST + requests * i64::from(percent) / PRICE, "{retries}");
            prop_assert!(requests == 0 || retries >= MOST + (requests - 1) * i64::from(percent) / PRICE - 1);
        }
    }
}
