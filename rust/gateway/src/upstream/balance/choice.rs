//! The ways to choose one of several: by chance, or by what each has to do. In all of them whoever has twice the share
//! gets twice the requests.

use std::cmp::Ordering;

/// One by chance, of those with a share.
pub(super) fn random(count: usize, share: impl Fn(usize) -> u64) -> Option<usize> {
    let total: u64 = (0..count).map(&share).sum();
    if total == 0 {
        return None;
    }
    let mut left = fastrand::u64(..total);
    let mut last = None;
    for at in 0..count {
        let share = share(at);
        if share > left {
            return Some(at);
        }
        left -= share;
        last = (share > 0).then_some(at).or(last);
    }
    // Shares became smaller meanwhile.
    last
}

/// The one with the least to do for its share; `first` is looked at first, and wins where several are alike.
pub(super) fn least(
    count: usize,
    first: usize,
    share: impl Fn(usize) -> u64,
    load: impl Fn(usize) -> usize,
) -> Option<usize> {
    let mut best: Option<(usize, usize, u64)> = None;
    for at in (0..count).map(|step| (first + step) % count) {
        let (load, share) = (load(at), share(at));
        if share > 0
            && best.is_none_or(|(_, its, its_share)| by_load(load, share, its, its_share) == Ordering::Less)
        {
            best = Some((at, load, share));
        }
    }
    best.map(|(at, ..)| at)
}

/// Of two taken by chance, the one with less to do for its share. That is nearly as even as the least of all, costs the
/// same for many as for few, and many gateways that choose at once do not all fall upon one.
pub(super) fn of_two(
    count: usize,
    share: impl Fn(usize) -> u64,
    load: impl Fn(usize) -> usize,
) -> Option<usize> {
    let one = random(count, &share)?;
    let Some(other) = random(count, |at| if at == one { 0 } else { share(at) }) else { return Some(one) };
    // They were taken by their shares already.
    Some(if load(other) < load(one) { other } else { one })
}

/// Whether one more request would be less for the one than for the other.
fn by_load(load: usize, share: u64, its_load: usize, its_share: u64) -> Ordering {
    let cost = |load: usize, other_share: u64| (load as u128 + 1) * u128::from(other_share);
    cost(load, its_share).cmp(&cost(its_load, share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often each is chosen, where no request ever ends.
    fn loads(
        shares: &[u64],
        requests: usize,
        choose: impl Fn(&[usize], usize) -> Option<usize>,
    ) -> Vec<usize> {
        let mut loads = vec![0; shares.len()];
        for turn in 0..requests {
            let chosen = choose(&loads, turn).expect("somebody has a share");
            loads[chosen] += 1;
        }
        loads
    }

    proptest! {
        #[test]
        fn the_least_loaded_is_always_within_one_of_its_part(shares in prop::collection::vec(1_u64..20, 1..8)) {
            let total: u64 = shares.iter().sum();
            let loads = loads(&shares, 500, |loads, turn| {
                least(shares.len(), turn % shares.len(), |at| shares[at], |at| loads[at])
            });
            for (load, share) in loads.iter().zip(&shares) {
                let part = 500.0 * *share as f64 / total as f64;
                prop_assert!((*load as f64 - part).abs() <= shares.len() as f64, "{loads:?} by {shares:?}");
            }
        }

        #[test]
        fn nobody_without_a_share_is_chosen(shares in prop::collection::vec(0_u64..3, 0..6), first in 0_usize..6) {
            let count = shares.len();
            let chosen = [
                random(count, |at| shares[at]),
                least(count, first, |at| shares[at], |_| 0),
                of_two(count, |at| shares[at], |_| 0),
            ];
            for chosen in chosen {
                prop_assert_eq!(chosen.is_some(), shares.iter().any(|share| *share > 0));
                prop_assert!(chosen.is_none_or(|at| shares[at] > 0));
            }
        }

        #[test]
        fn of_two_the_busier_is_never_chosen(loads in prop::collection::vec(0_usize..9, 2)) {
            let chosen = of_two(2, |_| 1, |at| loads[at]).expect("both have a share");
            prop_assert!(loads[chosen] == *loads.iter().min().expect("two"));
        }
    }

    #[test]
    fn chance_regards_shares() {
        let shares = [1, 0, 3];
        let loads = loads(&shares, 4000, |_, _| random(3, |at| shares[at]));
        assert!((800..1200).contains(&loads[0]) && loads[1] == 0, "{loads:?}");
    }

    #[test]
    fn two_choices_are_far_more_even_than_one() {
        let shares = [1; 10];
        let loads = loads(&shares, 10_000, |loads, _| of_two(10, |at| shares[at], |at| loads[at]));
        assert!(loads.iter().all(|load| (980..1020).contains(load)), "{loads:?}");
    }

    #[test]
    fn alike_ones_take_turns() {
        let firsts: Vec<_> = (0..3).map(|first| least(3, first, |_| 1, |_| 0)).collect();
        assert_eq!(firsts, [Some(0), Some(1), Some(2)]);
    }
}
