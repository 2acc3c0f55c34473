//! The same endpoint for the same key, in this process and in every other one that has the same endpoints.
//!
//! Each endpoint and key have a number by chance, and the highest wins (rendezvous hashing). So an endpoint that goes
//! gives away its own keys and no others, one that comes takes only what is its share, weights are exact, and there is
//! no ring to be built anew. It costs a few nanoseconds for each endpoint. Whoever has more than its part of the
//! requests of the moment (bounded loads) is passed over: its key goes to the next highest, so that one busy key
//! cannot bury an endpoint.

/// How much of its part of the load an endpoint may have, in percent.
const BOUND: u64 = 125;

/// A number for bytes, the same everywhere: FNV-1a, its bits mixed.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Each bit depends on each (the last step of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The higher, the more the endpoint is the key's. In proportion to the share, the highest of all is this one's.
fn score(key: u64, endpoint: u64, share: u64) -> f64 {
    // Between 0 and 1, without either: 53 bits are what a float holds.
    let chance = ((mix(key ^ endpoint) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    share as f64 / -chance.ln()
}

/// Whose `key` is, of those with a share; `hash` is that of an endpoint's name, `load` what it has to do.
pub(super) fn owner(
    key: u64,
    count: usize,
    hash: impl Fn(usize) -> u64,
    share: impl Fn(usize) -> u64,
    load: impl Fn(usize) -> usize,
) -> Option<usize> {
    let shares: u64 = (0..count).map(&share).sum();
    let loads: u64 = (0..count).filter(|at| share(*at) > 0).map(|at| load(at) as u64).sum();
    let best = |busy: bool| {
        let mut best: Option<(usize, f64)> = None;
        for at in 0..count {
            let share = share(at);
            if share == 0 || !busy && is_busy(load(at) as u64, loads, share, shares) {
                continue;
            }
            let score = score(key, hash(at), share);
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((at, score));
            }
        }
        best.map(|(at, _)| at)
    };
    // Loads change meanwhile: where all seem busy, none is passed over.
    best(false).or_else(|| best(true))
}

/// Whether one more would be too many: over its part of all, and of the one that comes.
fn is_busy(load: u64, loads: u64, share: u64, shares: u64) -> bool {
    let part = u128::from(loads + 1) * u128::from(share) * u128::from(BOUND);
    u128::from(load) >= part.div_ceil(u128::from(shares.max(1)) * 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whose each of many keys is, among endpoints with these names and shares.
    fn owners(endpoints: &[(u64, u64)]) -> Vec<u64> {
        let hashes: Vec<u64> = endpoints.iter().map(|(name, _)| hash(&name.to_be_bytes())).collect();
        let owner = |key: u64| {
            let key = hash(&key.to_be_bytes());
            let at = owner(key, endpoints.len(), |at| hashes[at], |at| endpoints[at].1, |_| 0);
            endpoints[at.expect("somebody has a share")].0
        };
        (0..4000).map(owner).collect()
    }

    #[test]
    fn hashes_are_the_same_everywhere() {
        assert_eq!([hash(b""), hash(b"127.0.0.1")], [0xf52a_15e9_a9b5_e89b, 0x360f_a4ad_e68d_5ada]);
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let owners = owners(&[(1, 100), (2, 300)]);
        let first = owners.iter().filter(|owner| **owner == 1).count();
        assert!((850..1150).contains(&first), "{first} of 4000");
    }

    proptest! {
        #[test]
        fn an_endpoint_that_goes_gives_away_only_its_own_keys(count in 2_u64..9, gone in 0_u64..9) {
            let all: Vec<_> = (0..count).map(|name| (name, 100)).collect();
            let gone = gone % count;
            let left: Vec<_> = all.iter().copied().filter(|(name, _)| *name != gone).collect();
            let mut moved = 0;
            for (before, after) in owners(&all).into_iter().zip(owners(&left)) {
                prop_assert!(before == after || before == gone);
                moved += u64::from(before == gone);
            }
            // Its share of 4000, give or take.
            prop_assert!(moved * count > 3200 && moved * count < 4800, "{moved} of 4000 were its own");
        }

        #[test]
        fn nobody_gets_more_than_its_bound(keys in prop::collection::vec(0_u64..3, 1..400), count in 1_usize..8) {
            // All requests stay, so the loads only grow.
            let mut loads = vec![0_usize; count];
            for key in keys {
                let place = |at: usize| hash(&at.to_be_bytes());
                let at = owner(mix(key), count, place, |_| 100, |at| loads[at]).expect("all have a share");
                loads[at] += 1;
                let all: usize = loads.iter().sum();
                prop_assert!(loads[at] <= (all * 125).div_ceil(count * 100), "{loads:?}");
            }
        }

        #[test]
        fn whoever_has_no_share_has_no_key(key: u64) {
            prop_assert_eq!(owner(key, 3, |at| at as u64, |at| u64::from(at == 1), |_| 9), Some(1));
            prop_assert_eq!(owner(key, 3, |at| at as u64, |_| 0, |_| 0), None);
        }
    }
}
