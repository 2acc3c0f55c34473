//! Who is there: the workers of one group, what their entries handle, and which of them to choose.
//!
//! Workers announce themselves and answer when they are asked (roll.rs). The data plane reads what they handle as
//! one atomic number per entry; the members themselves it looks at only while it chooses a worker itself, which it
//! does as long as one of them is silent or full (the queue group would pick that one again).

use super::counters::Counters;
use super::entries::Known;
use super::members::{Member, Members};
use super::peer::{Peer, Standing, least_loaded};
use super::room::Room;
use super::tally::Tally;
use nylon_core::Phase;
use nylon_wire::{EntryShape, GroupSubjects, Info};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long first calls go straight to workers after one of them was full.
const CROWDED_FOR: Duration = Duration::from_millis(500);
/// How long a worker that said it is busy counts as full.
const BUSY_FOR: Duration = Duration::from_millis(20);
/// Workers that are known by nothing but their answers; more are not remembered.
const MAX_UNANNOUNCED: usize = 4096;
/// A frozen worker stays in its queue group for as long as the server keeps its connection, which is minutes.
const REMEMBER_SUSPECTS: Duration = Duration::from_secs(900);

/// One queue group as the gateway knows it.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) subjects: GroupSubjects,
    pub(super) counters: Arc<Counters>,
    /// Calls in flight.
    pub(super) in_flight: AtomicUsize,
    /// How calls ended.
    pub(super) tally: Tally,
    /// Calls that wait for a worker to have room, and how they learn of it.
    pub(super) room: Room,
    /// A roll-call is wanted now.
    pub(super) ask: Arc<Notify>,
    /// Roll-calls so far.
    roll: AtomicU32,
    suspects: AtomicUsize,
    /// A call was not taken, and who does not answer is being found out.
    doubted: AtomicBool,
    /// Until when first calls go straight to workers, in milliseconds of the group's clock.
    crowded_until: AtomicU64,
    born: Instant,
    turn: AtomicUsize,
    members: Mutex<Members>,
}

/// A worker for a call.
pub(super) struct Choice {
    pub(super) peer: Arc<Peer>,
    /// It has no room, as far as is known, and nobody else has.
    pub(super) full: bool,
    /// It is full with calls of this gateway, which will notice when one of them is over.
    pub(super) loaded: bool,
}

impl Group {
    pub(super) fn new(name: &str, subjects: GroupSubjects, counters: Arc<Counters>) -> Arc<Group> {
        Arc::new(Group {
            name: name.to_owned(),
            subjects,
            counters,
            in_flight: AtomicUsize::new(0),
            tally: Tally::default(),
            room: Room::default(),
            ask: Arc::default(),
            roll: AtomicU32::new(0),
            suspects: AtomicUsize::new(0),
            doubted: AtomicBool::new(false),
            crowded_until: AtomicU64::new(0),
            born: Instant::now(),
            turn: AtomicUsize::new(0),
            members: Mutex::default(),
        })
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Each change below is complete before anything that could panic.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is known of an entry, now and later.
    pub(super) fn entry(&self, name: &str) -> Known {
        let mut members = self.members();
        if let Some(known) = members.entries.get(name) {
            return known.clone();
        }
        let known = Known::new(members.shapes(name));
        members.entries.insert(name.to_owned(), known.clone());
        known
    }

    /// Live workers.
    pub(super) fn size(&self) -> usize {
        self.members().live().count()
    }

    /// Whether a live worker has this entry.
    pub(super) fn has(&self, entry: &str) -> bool {
        self.members().live().any(|(_, shapes)| shapes.contains_key(entry))
    }

    /// The worker with this id, announced or not; none if the id cannot be one.
    pub(super) fn peer(&self, id: &str) -> Option<Arc<Peer>> {
        let mut members = self.members();
        if let Some(member) = members.all.get(id) {
            return Some(member.peer.clone());
        }
        let subject = self.subjects.worker(id).ok()?;
        let peer = members.new_peer(id, subject, self.roll.load(Ordering::Relaxed));
        if members.all.len() - members.live().count() < MAX_UNANNOUNCED {
            let member = Member { peer: peer.clone(), shapes: None, seen: Instant::now() };
            members.all.insert(id.into(), member);
        }
        Some(peer)
    }

    /// Whether the queue group is not to be trusted with first calls just now: it may pick a worker that does not
    /// answer, or is full.
    pub(super) fn is_troubled(&self) -> bool {
        let doubted = self.doubted.load(Ordering::Relaxed);
        if doubted || self.suspects.load(Ordering::Relaxed) > 0 || self.room.is_awaited() {
            return true;
        }
        let until = self.crowded_until.load(Ordering::Relaxed);
        // Read without the clock as long as nothing was ever full.
        until != 0 && until > self.clock()
    }

    /// The least loaded live worker that has the phase and is none of `avoid`.
    pub(super) fn choose(&self, entry: &str, phase: Phase, avoid: &[Arc<Peer>]) -> Option<Choice> {
        let (now, roll) = (self.clock(), self.roll.load(Ordering::Relaxed));
        let members = self.members();
        let fit = |(peer, shapes): &(&Arc<Peer>, &HashMap<String, EntryShape>)| {
            !peer.is_suspect()
                && shapes.get(entry).is_some_and(|shape| shape.phases.contains(phase))
                && !avoid.iter().any(|avoided| Arc::ptr_eq(avoided, peer))
        };
        let peers: Vec<_> = members.live().filter(fit).map(|(peer, _)| peer).collect();
        let standings: Vec<_> = peers.iter().map(|peer| peer.standing(now, roll)).collect();
        let best = least_loaded(&standings, self.turn.fetch_add(1, Ordering::Relaxed))?;
        let Standing { busy, loaded, .. } = standings[best];
        Some(Choice { peer: peers[best].clone(), full: busy || loaded, loaded })
    }

    /// A frame of this worker came in.
    pub(super) fn heard(&self, peer: &Peer) {
        peer.note_heard(self.roll.load(Ordering::Relaxed));
        if peer.is_suspect() && peer.set_suspect(false) {
            tracing::info!(group = %self.name, worker = %peer.name(), "worker is heard again");
            self.count_suspects(&self.members());
        }
    }

    /// The worker has a call more. True from the one on that fills it.
    pub(super) fn load(&self, peer: &Peer) {
        if peer.take() {
            self.crowd();
        }
    }

    /// The worker has a call less; `freed` if it has room for another one now.
    pub(super) fn unload(&self, peer: &Peer, freed: bool) {
        peer.release();
        if freed {
            // What it said of being full is over with this call. If others have taken the room, it says so again.
            peer.note_busy(0);
            self.room.free_one();
        }
    }

    /// The worker had no room.
    pub(super) fn busy(&self, peer: &Peer) {
        self.counters.busy.add();
        peer.note_busy(self.clock() + BUSY_FOR.as_millis() as u64);
        self.crowd();
    }

    fn crowd(&self) {
        self.crowded_until.store(self.clock() + CROWDED_FOR.as_millis() as u64, Ordering::Relaxed);
    }

    /// A worker that the queue group picked did not take its call in time. Which one is found out by asking all.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
        self.ask.notify_one();
    }

    /// The worker did not answer in time: frozen, or its machine is away.
    pub(super) fn suspect(&self, peer: &Peer) {
        if peer.set_suspect(true) {
            if let Some(count) = self.counters.suspects.add() {
                tracing::warn!(
                    group = %self.name, worker = %peer.name(), count,
                    "a worker does not answer; it gets no first calls until it is heard again"
                );
            }
            self.count_suspects(&self.members());
        }
    }

    /// The server says that nobody listens on the worker's subject.
    pub(super) fn gone(&self, peer: &Peer) {
        if self.remove(peer.name()) {
            tracing::warn!(group = %self.name, worker = %peer.name(), "worker is gone");
        }
    }

    pub(super) fn joined(&self, info: Info) {
        let id = info.worker.as_str();
        let Ok(subject) = self.subjects.worker(id) else { return };
        if info.group.as_str() != self.name {
            return;
        }
        let shapes = Some(info.entries.into_iter().map(|entry| (entry.name, entry.shape)).collect());
        let roll = self.roll.load(Ordering::Relaxed);
        let mut members = self.members();
        let peer = match members.all.get_mut(id) {
            Some(member) if member.shapes == shapes => {
                member.seen = Instant::now();
                member.peer.clone()
            }
            _ => {
                let known = members.all.remove(id).map(|member| member.peer);
                let peer = known.unwrap_or_else(|| members.new_peer(id, subject, roll));
                let member = Member { peer: peer.clone(), shapes, seen: Instant::now() };
                members.all.insert(id.into(), member);
                tracing::info!(group = %self.name, worker = %id, "worker is there");
                members.publish();
                self.room.freed.notify_waiters();
                peer
            }
        };
        drop(members);
        peer.announce(info.concurrency);
        self.heard(&peer);
    }

    pub(super) fn left(&self, worker: &str) {
        if self.remove(worker) {
            tracing::info!(group = %self.name, %worker, "worker leaves");
        }
    }

    /// Forgets a worker; true if it was a live one.
    fn remove(&self, id: &str) -> bool {
        let mut members = self.members();
        let removed = members.all.remove(id);
        if let Some(member) = &removed {
            // A session that has it as its home finds out by itself, also when it is there again under this id.
            member.peer.set_suspect(false);
        }
        self.count_suspects(&members);
        let live = removed.is_some_and(|member| member.shapes.is_some());
        if live {
            members.publish();
        }
        live
    }

    /// Takes out the workers that stayed silent since before `limit`. One that is suspect is remembered longer,
    /// because the queue group has it still.
    pub(super) fn forget(&self, limit: Duration) {
        let mut members = self.members();
        let before = members.live().count();
        for member in members.all.values_mut() {
            if member.seen.elapsed() >= limit {
                member.shapes = None;
            }
        }
        members.all.retain(|_, member| match (&member.shapes, member.peer.is_suspect()) {
            (Some(_), _) => true,
            (None, true) => member.seen.elapsed() < REMEMBER_SUSPECTS,
            (None, false) => Arc::strong_count(&member.peer) > 1 || member.seen.elapsed() < limit,
        });
        self.count_suspects(&members);
        let now = members.live().count();
        if now != before {
            tracing::warn!(group = %self.name, "{} workers stopped answering", before - now);
            members.publish();
        }
    }

    /// After an outage everybody gets the time to answer anew.
    pub(super) fn pardon(&self) {
        let roll = self.roll.load(Ordering::Relaxed);
        for member in self.members().all.values_mut() {
            member.seen = Instant::now();
            member.peer.note_heard(roll);
        }
    }

    /// Everybody is asked now. Gives the number of this roll-call.
    pub(super) fn call_roll(&self) -> u32 {
        self.roll.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Those that may be frozen.
    pub(super) fn suspects(&self) -> Vec<Arc<Peer>> {
        if self.suspects.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let members = self.members();
        members.all.values().map(|member| &member.peer).filter(|peer| peer.is_suspect()).cloned().collect()
    }

    /// The time to answer is over. Right after an outage silence means nothing: workers are still coming back.
    pub(super) fn end_roll(&self, roll: u32, settling: bool) {
        self.doubted.store(false, Ordering::Relaxed);
        if settling {
            return;
        }
        let silent = |peer: &&Arc<Peer>| !peer.heard_since(roll);
        let silent: Vec<_> = self.members().live().map(|(peer, _)| peer).filter(silent).cloned().collect();
        silent.iter().for_each(|peer| self.suspect(peer));
    }

    /// The worker whose answer to the roll has this number.
    pub(super) fn numbered(&self, number: u32) -> Option<Arc<Peer>> {
        self.members().all.values().map(|member| &member.peer).find(|peer| peer.number == number).cloned()
    }

    fn count_suspects(&self, members: &Members) {
        let suspects = members.all.values().filter(|member| member.peer.is_suspect()).count();
        self.suspects.store(suspects, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::BodyUse;
    use nylon_core::PhaseMask;
    use nylon_wire::EntryInfo;

    fn group() -> Arc<Group> {
        Group::new("g", GroupSubjects::new("nylon", "g").expect("names"), Arc::default())
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
        assert!(
            auth.keeps_sessions()
                && !auth.traits().request_body
                && auth.traits().response_body == BodyUse::Whole
        );
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
        assert_eq!(auth.traits().response_body, BodyUse::ByChunk);
        group.joined(info("w2", &[Phase::ResponseBodyFilter]));
        assert_eq!(auth.traits().response_body, BodyUse::Whole);
    }

    #[test]
    fn a_worker_that_was_busy_has_room_again_once_a_call_of_ours_has_ended_there() {
        let group = group();
        group.joined(info("w1", &[Phase::RequestFilter]));
        let full = || group.choose("auth", Phase::RequestFilter, &[]).map(|choice| choice.full);
        let peer = group.peer("w1").expect("it is there");
        group.load(&peer);
        group.busy(&peer);
        assert_eq!(full(), Some(true));
        group.unload(&peer, true);
        assert_eq!(full(), Some(false));
    }

    #[test]
    fn who_does_not_answer_the_roll_gets_no_calls_until_it_is_heard() {
        let group = group();
        for worker in ["w1", "w2"] {
            group.joined(info(worker, &[Phase::RequestFilter]));
        }
        let chosen = || {
            let choose =
                |_| group.choose("auth", Phase::RequestFilter, &[]).expect("one").peer.name().to_owned();
            (0..10).map(choose).collect::<std::collections::BTreeSet<_>>()
        };
        let both = std::collections::BTreeSet::from(["w1".to_owned(), "w2".to_owned()]);
        let roll = group.call_roll();
        group.heard(&group.peer("w2").expect("known"));
        assert_eq!(chosen(), ["w2".to_owned()].into(), "who has answered already is preferred");
        group.end_roll(roll, true);
        assert!(!group.is_troubled(), "after an outage workers have their time");
        group.end_roll(roll, false);
        assert!(group.is_troubled() && group.suspects().len() == 1);
        group.heard(&group.peer("w1").expect("known"));
        assert!(!group.is_troubled() && group.suspects().is_empty());
        assert_eq!(chosen(), both);
        assert!(group.choose("auth", Phase::Logging, &[]).is_none());
    }

    #[test]
    fn a_worker_that_went_is_no_suspect_to_the_sessions_that_it_has() {
        let group = group();
        group.joined(info("w1", &[Phase::RequestFilter]));
        let home = group.peer("w1").expect("known");
        group.suspect(&home);
        group.gone(&home);
        assert!(!home.is_suspect() && !group.is_troubled());
    }

    #[test]
    fn an_announcement_for_another_group_or_with_an_unusable_id_is_ignored() {
        let group = group();
        group.joined(Info { group: "h".into(), ..info("w1", &[]) });
        group.joined(info("w.*", &[]));
        assert_eq!(group.size(), 0);
    }
}
