//! Which group serves a session, where several share a plugin's sessions by weight.
//!
//! The choice is made once per session and kept for all its phases and retries, so that an exchange is served wholly
//! by one version. A group that is down keeps its share: a canary that fails must be seen, not covered up.
//!
//! The choice is spread evenly instead of drawn: the n-th session is placed by the fractional part of n/φ, the
//! sequence with the smallest gaps. So a share of 5 % is about every twentieth session, never a run of them, and
//! all threads need one counter and no lock.

use super::connection::Connection;
use super::session::Served;
use super::workers::Group;
use crate::plugin::{BodyUse, EntryTraits};
use nylon_config::plan::GroupShare;
use nylon_core::{Phase, PhaseMask};
use nylon_wire::{GroupSubjects, SubjectError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 2^64/φ, odd: multiples of it, modulo 2^64, are spread evenly.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The groups of one plugin.
pub(super) struct Groups {
    all: Vec<Share>,
    total: u64,
    /// Sessions begun so far, times [`STRIDE`].
    place: AtomicU64,
}

/// One group and its part of the sessions.
pub(super) struct Share {
    pub(super) group: Arc<Group>,
    pub(super) weight: u32,
}

impl Groups {
    /// The groups as configured, watched over `connection` from now on.
    pub(super) fn new(
        connection: &Connection,
        prefix: &str,
        shares: &[GroupShare],
    ) -> Result<Groups, SubjectError> {
        let share = |share: &GroupShare| {
            let group = Group::new(
                &share.name,
                GroupSubjects::new(prefix, &share.name)?,
                connection.counters.clone(),
            );
            Ok(Share { group, weight: share.weight })
        };
        let all: Vec<Share> = shares.iter().map(share).collect::<Result<_, _>>()?;
        all.iter().for_each(|share| connection.join(&share.group));
        let total = all.iter().map(|share| u64::from(share.weight)).sum();
        Ok(Groups { all, total, place: AtomicU64::new(0) })
    }

    pub(super) fn all(&self) -> &[Share] {
        &self.all
    }

    /// Each group with its workers and its calls.
    pub(super) fn figures(&self) -> Vec<Value> {
        let figures = |share: &Share| {
            let mut figures = json!({
                "name": share.group.name,
                "weight": share.weight,
                "workers": share.group.size(),
                "in_flight": share.group.in_flight.load(Ordering::Relaxed),
            });
            if let (Some(all), Value::Object(calls)) = (figures.as_object_mut(), share.group.tally.figures())
            {
                all.extend(calls);
            }
            figures
        };
        self.all.iter().map(figures).collect()
    }

    /// One entry on each group, in their order.
    pub(super) fn entry(&self, name: &str) -> Vec<Arc<Served>> {
        let on =
            |share: &Share| Arc::new(Served { group: share.group.clone(), known: share.group.entry(name) });
        self.all.iter().map(on).collect()
    }

    /// The place of the group that serves a session which begins now.
    pub(super) fn choose(&self) -> usize {
        if self.all.len() == 1 {
            return 0;
        }
        let place = self.place.fetch_add(STRIDE, Ordering::Relaxed);
        // place/2^64 of the total; smaller than the total, whatever it is.
        let at = (u128::from(place) * u128::from(self.total)) >> 64;
        let mut passed = 0u128;
        let found = self.all.iter().position(|share| {
            passed += u128::from(share.weight);
            at < passed
        });
        found.unwrap_or(0)
    }

    /// The entry's traits before it is known which group serves: what any of them wants, since a session that does
    /// not need it skips it. Chunks are given only where every group that filters the body takes them.
    pub(super) fn traits(&self, on: &[Arc<Served>]) -> EntryTraits {
        if let [only] = on {
            return only.known.traits();
        }
        let sharing = || self.all.iter().zip(on).filter(|(share, _)| share.weight > 0);
        let traits = || sharing().map(|(_, on)| on.known.traits());
        let filters_body = |traits: &EntryTraits| traits.phases.contains(Phase::ResponseBodyFilter);
        EntryTraits {
            phases: traits().fold(PhaseMask::NONE, |all, one| all.union(one.phases)),
            request_body: traits().any(|one| one.request_body),
            response_body: BodyUse::by_chunk(
                traits().any(|one| filters_body(&one))
                    && traits().filter(filters_body).all(|one| one.response_body == BodyUse::ByChunk),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(weights: &[u32]) -> Groups {
        let all = weights.iter().enumerate().map(|(number, weight)| {
            let name = format!("g{number}");
            let subjects = GroupSubjects::new("nylon", &name).expect("names");
            Share { group: Group::new(&name, subjects, Arc::default()), weight: *weight }
        });
        let total = weights.iter().map(|weight| u64::from(*weight)).sum();
        Groups { all: all.collect(), total, place: AtomicU64::new(0) }
    }

    #[test]
    fn each_group_gets_its_share_of_every_hundred_sessions_in_a_row() {
        let groups = groups(&[95, 5]);
        for _ in 0..1000 {
            let canary = (0..100).filter(|_| groups.choose() == 1).count();
            assert!((4..=6).contains(&canary), "{canary}");
        }
    }

    #[test]
    fn a_weight_of_0_gets_nothing_and_large_weights_do_not_overflow() {
        let groups = groups(&[0, 1_000_000, 0, 1_000_000]);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[groups.choose()] += 1;
        }
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!((4950..=5050).contains(&counts[1]), "{counts:?}");
    }
}
