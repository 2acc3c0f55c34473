//! Who is there: the live workers of one group and what their entries handle.
//!
//! Workers announce themselves when they start and after each reconnect, and answer when they are asked
//! (`$SRV.INFO`, at connect and then every [`ASK_EVERY`]). Not answering for [`FORGET_AFTER`] takes a worker out.
//! The data plane reads the result as one atomic number per entry.
//!
//! What is not known errs on the side of calling: while no worker is known, an entry has all phases, so that
//! they fail by their policy instead of being skipped; a phase is skipped only when every live worker of the
//! group says that it lacks it. The request body is not read ahead for an unknown entry: a worker that needs
//! it asks for it. A response body goes by chunk only if every worker that filters it takes chunks.

use super::life::Life;
use super::tally::Tally;
use crate::plugin::EntryTraits;
use async_nats::Message;
use futures_util::StreamExt;
use nylon_core::{Phase, PhaseMask};
use nylon_wire::{EntryShape, Envelope, GroupSubjects, Info, Kind, Leave};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often a group's workers are asked what they are.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long a worker may stay silent: three questions, and a little.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(16);

const BODY: u16 = 1 << 4;
const STREAM: u16 = 1 << 5;
const SESSION: u16 = 1 << 6;
const UNKNOWN: u16 = PhaseMask::ALL.bits() as u16 | SESSION;

/// What is known of one entry, readable without a lock.
#[derive(Clone)]
pub(super) struct Known(Arc<AtomicU16>);

impl Known {
    pub(super) fn traits(&self) -> EntryTraits {
        let bits = self.0.load(Ordering::Relaxed);
        EntryTraits {
            phases: PhaseMask::from_bits(bits as u8),
            request_body: bits & BODY != 0,
            stream: bits & STREAM != 0,
        }
    }

    /// Whether a session's later phases must go to the worker that took its first one.
    pub(super) fn keeps_sessions(&self) -> bool {
        self.0.load(Ordering::Relaxed) & SESSION != 0
    }
}

/// One queue group as the gateway knows it.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) subjects: GroupSubjects,
    /// Calls in flight.
    pub(super) in_flight: AtomicUsize,
    /// How calls ended.
    pub(super) tally: Tally,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    live: HashMap<String, Member>,
    entries: HashMap<String, Known>,
}

struct Member {
    shapes: HashMap<String, EntryShape>,
    seen: Instant,
}

impl Group {
    pub(super) fn new(name: &str, subjects: GroupSubjects) -> Arc<Group> {
        let (in_flight, tally) = (AtomicUsize::new(0), Tally::default());
        Arc::new(Group { name: name.to_owned(), subjects, in_flight, tally, members: Mutex::default() })
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Each change below is complete before anything that could panic.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an entry, now and later.
    pub(super) fn entry(&self, name: &str) -> Known {
        let mut members = self.members();
        if let Some(known) = members.entries.get(name) {
            return known.clone();
        }
        let known = Known(Arc::new(AtomicU16::new(members.summary(name))));
        members.entries.insert(name.to_owned(), known.clone());
        known
    }

    /// Live workers.
    pub(super) fn size(&self) -> usize {
        self.members().live.len()
    }

    /// A live worker that has this entry, other than `not`.
    pub(super) fn another_with(&self, entry: &str, not: &str) -> Option<String> {
        let members = self.members();
        let mut having =
            members.live.iter().filter(|(id, member)| *id != not && member.shapes.contains_key(entry));
        having.next().map(|(id, _)| id.clone())
    }

    pub(super) fn joined(&self, info: Info) {
        if info.group.as_str() != self.name || self.subjects.worker(info.worker.as_str()).is_err() {
            return;
        }
        let shapes = info.entries.into_iter().map(|entry| (entry.name, entry.shape)).collect();
        let id = info.worker.as_str();
        let mut members = self.members();
        let known = members.live.get(id).is_some_and(|member| member.shapes == shapes);
        members.live.insert(id.to_owned(), Member { shapes, seen: Instant::now() });
        if !known {
            tracing::info!(group = %self.name, worker = %id, "worker is there");
            members.publish();
        }
    }

    pub(super) fn left(&self, worker: &str) {
        let mut members = self.members();
        if members.live.remove(worker).is_some() {
            tracing::info!(group = %self.name, %worker, "worker leaves");
            members.publish();
        }
    }

    /// Takes out the workers that stayed silent since before `limit`.
    fn forget(&self, limit: Duration) {
        let mut members = self.members();
        let before = members.live.len();
        members.live.retain(|_, member| member.seen.elapsed() < limit);
        if members.live.len() != before {
            tracing::warn!(group = %self.name, "{} workers stopped answering", before - members.live.len());
            members.publish();
        }
    }

    /// After an outage everybody gets the time to answer anew.
    fn pardon(&self) {
        self.members().live.values_mut().for_each(|member| member.seen = Instant::now());
    }
}

impl Members {
    fn publish(&self) {
        for (name, known) in &self.entries {
            known.0.store(self.summary(name), Ordering::Relaxed);
        }
    }

    fn summary(&self, entry: &str) -> u16 {
        let having: Vec<_> = self.live.values().filter_map(|member| member.shapes.get(entry)).collect();
        if having.is_empty() {
            return UNKNOWN;
        }
        let phases = having.iter().fold(PhaseMask::NONE, |all, shape| all.union(shape.phases));
        let flag = |set, bit| if set { bit } else { 0 };
        let filters_body =
            having.iter().filter(|shape| shape.phases.contains(Phase::ResponseBodyFilter)).count();
        let by_chunk = having
            .iter()
            .filter(|shape| shape.phases.contains(Phase::ResponseBodyFilter) && shape.stream)
            .count();
        u16::from(phases.bits())
            | flag(having.iter().any(|shape| shape.request_body), BODY)
            | flag(by_chunk > 0 && by_chunk == filters_body, STREAM)
            | flag(having.iter().any(|shape| shape.session), SESSION)
    }
}

/// Keeps a group up to date for as long as the connection and the group live.
pub(super) async fn watch(life: Arc<Life>, group: Weak<Group>) -> Result<(), async_nats::Error> {
    let Some(subjects) = group.upgrade().map(|group| group.subjects.clone()) else { return Ok(()) };
    let inbox = life.client.new_inbox();
    let mut announcements = life.client.subscribe(subjects.workers.clone()).await?;
    let mut answers = life.client.subscribe(inbox.clone()).await?;
    if let Some(group) = group.upgrade() {
        group.pardon();
    }
    let mut ask = tokio::time::interval(ASK_EVERY);
    loop {
        tokio::select! {
            Some(message) = announcements.next() => {
                let Some(group) = group.upgrade() else { return Ok(()) };
                announced(&group, &message);
            }
            Some(message) = answers.next() => {
                let Some(group) = group.upgrade() else { return Ok(()) };
                answered(&group, &message);
            }
            _ = ask.tick() => {
                let Some(group) = group.upgrade() else { return Ok(()) };
                group.forget(FORGET_AFTER);
                life.client.publish_with_reply(subjects.info(), inbox.clone(), Default::default()).await?;
            }
        }
    }
}

fn announced(group: &Group, message: &Message) {
    let done = match Envelope::peek(&message.payload).map(|seen| seen.kind) {
        Ok(Kind::Info) => Info::decode(&message.payload).map(|info| group.joined(info)),
        Ok(Kind::Leave) => Leave::decode(&message.payload).map(|leave| group.left(leave.worker.as_str())),
        // A later version's announcement of something else.
        Ok(_) | Err(nylon_wire::WireError::Kind { .. }) => Ok(()),
        Err(why) => Err(why),
    };
    if let Err(why) = done {
        tracing::warn!(group = %group.name, "an announcement of a worker is malformed: {why}");
    }
}

/// An answer of a NATS micro service; one that is not a Nylon worker has none of our keys.
fn answered(group: &Group, message: &Message) {
    let Ok(info) = serde_json::from_slice::<serde_json::Value>(&message.payload) else { return };
    let Some(metadata) = info.get("metadata").and_then(|metadata| metadata.as_object()) else { return };
    let pairs = metadata.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    if let Ok(info) = Info::from_metadata(pairs) {
        group.joined(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nylon_wire::EntryInfo;

    fn group() -> Arc<Group> {
        Group::new("g", GroupSubjects::new("nylon", "g").expect("names"))
    }

    fn info(worker: &str, phases: &[Phase]) -> Info {
        let shape = EntryShape { phases: phases.iter().copied().collect(), ..EntryShape::default() };
        Info {
            worker: worker.into(),
            group: "g".into(),
            software: "0".into(),
            concurrency: 1,
            entries: vec![EntryInfo { name: "auth".into(), shape }],
        }
    }

    #[test]
    fn an_unknown_entry_has_every_phase_so_that_nothing_is_skipped() {
        let group = group();
        let auth = group.entry("auth");
        assert_eq!(auth.traits().phases, PhaseMask::ALL);
        assert!(auth.keeps_sessions() && !auth.traits().request_body && !auth.traits().stream);
        group.joined(info("w1", &[Phase::RequestFilter]));
        assert_eq!(group.entry("other").traits().phases, PhaseMask::ALL);
    }

    #[test]
    fn a_phase_is_skipped_only_when_every_live_worker_lacks_it() {
        let group = group();
        let auth = group.entry("auth");
        group.joined(info("w1", &[Phase::RequestFilter]));
        assert_eq!(auth.traits().phases, PhaseMask::from_iter([Phase::RequestFilter]));
        assert!(!auth.keeps_sessions());
        group.joined(info("w2", &[Phase::RequestFilter, Phase::Logging]));
        assert!(auth.traits().phases.contains(Phase::Logging));
        group.left("w2");
        assert!(!auth.traits().phases.contains(Phase::Logging));
        group.forget(Duration::ZERO);
        assert_eq!((group.size(), auth.traits().phases), (0, PhaseMask::ALL));
    }

    #[test]
    fn a_body_goes_by_chunk_only_if_every_worker_that_filters_it_takes_chunks() {
        let group = group();
        let auth = group.entry("auth");
        let mut streaming = info("w1", &[Phase::ResponseBodyFilter]);
        streaming.entries[0].shape.stream = true;
        group.joined(streaming);
        assert!(auth.traits().stream);
        group.joined(info("w2", &[Phase::ResponseBodyFilter]));
        assert!(!auth.traits().stream);
    }

    #[test]
    fn an_announcement_for_another_group_or_with_an_unusable_id_is_ignored() {
        let group = group();
        group.joined(Info { group: "h".into(), ..info("w1", &[]) });
        group.joined(info("w.*", &[]));
        assert_eq!(group.size(), 0);
    }
}
