//! A turn for each, in proportion to its share, spread as evenly as can be: of three with the shares 5, 1 and 1 it is
//! a, a, b, a, c, a, a, and never five times a in a row. It is nginx's way: whoever waits gains its share, whoever is
//! taken pays for all.

use std::sync::{Mutex, PoisonError};

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Smooth(Mutex<Vec<i64>>);

impl Smooth {
    pub(super) fn new(places: usize) -> Smooth {
        Smooth(Mutex::new(vec![0; places]))
    }

    /// The next, of those with a share.
    pub(super) fn next(&self, share: impl Fn(usize) -> u64) -> Option<usize> {
        // What one call leaves half done by a panic is only a turn.
        next(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), share)
    }
}

fn next(gained: &mut [i64], share: impl Fn(usize) -> u64) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<usize> = None;
    for at in 0..gained.len() {
        let Ok(share @ 1..) = i64::try_from(share(at)) else { continue };
        gained[at] += share;
        total += share;
        if best.is_none_or(|best| gained[at] > gained[best]) {
            best = Some(at);
        }
    }
    gained[best?] -= total;
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turns(shares: &[u64], count: usize) -> Vec<usize> {
        let smooth = Smooth::new(shares.len());
        (0..count).map(|_| smooth.next(|at| shares[at]).expect("somebody has a share")).collect()
    }

    #[test]
    fn it_is_spread_as_nginx_spreads_it() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nobody_without_a_share_is_taken() {
        assert_eq!(turns(&[0, 1, 0], 3), [1, 1, 1]);
        assert_eq!(Smooth::new(2).next(|_| 0), None);
        assert_eq!(Smooth::new(0).next(|_| 1), None);
    }

    proptest! {
        #[test]
        fn over_a_round_each_has_exactly_its_share(shares in prop::collection::vec(1_u64..40, 1..8)) {
            let total: u64 = shares.iter().sum();
            let round = usize::try_from(total).expect("small");
            let taken = turns(&shares, 2 * round);
            for half in taken.chunks(round) {
                for (at, share) in shares.iter().enumerate() {
                    let count = half.iter().filter(|taken| **taken == at).count() as u64;
                    prop_assert_eq!(count, *share);
                }
            }
        }

        #[test]
        fn nobody_is_ever_far_from_its_share(shares in prop::collection::vec(1_u64..40, 1..8)) {
            let total: u64 = shares.iter().sum();
            let taken = turns(&shares, usize::try_from(total).expect("small"));
            for (at, share) in shares.iter().enumerate() {
                let mut count = 0.0;
                for (turn, taken) in taken.iter().enumerate() {
                    count += f64::from(u8::from(*taken == at));
                    let due = (turn + 1) as f64 * *share as f64 / total as f64;
                    // By the number of those that wait, at most.
                    prop_assert!((count - due).abs() <= shares.len() as f64, "{count} instead of {due}");
                }
            }
        }
    }
}
