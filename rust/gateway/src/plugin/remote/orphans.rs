//! Sessions that a worker may have opened without the gateway knowing which one.
//!
//! A first call may reach a worker that says so only when nobody waits any more: the client left before the ack, or the
//! call was sent elsewhere meanwhile. That worker keeps a session for which no further call will come, for hours, and its
//! drain would wait for it. So what such calls would have opened is remembered for a while, and a late ack is
//! answered with the session's end.

use super::peer::Peer;
use super::session;
use super::workers::Group;
use bytes::Bytes;
use nylon_wire::{Ack, CallId, SessionId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Calls that are remembered; beyond it the oldest is forgotten, and its session left to the worker's own time-out.
const MAX_REMEMBERED: usize = 4096;
/// How late an ack is still answered.
const REMEMBER_FOR: Duration = Duration::from_secs(120);

/// The first calls of sessions that somebody may have taken unnoticed.
#[derive(Default)]
pub(super) struct Orphans(Mutex<VecDeque<Orphan>>);

struct Orphan {
    call: CallId,
    session: SessionId,
    group: Arc<Group>,
    /// The worker that the session belongs to, and those that will be told its end anyway.
    known: Vec<Arc<Peer>>,
    since: Instant,
}

impl Orphans {
    fn all(&self) -> MutexGuard<'_, VecDeque<Orphan>> {
        // Each change below is complete before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a call that is over.
    pub(super) fn remember(
        &self,
        call: CallId,
        session: SessionId,
        group: &Arc<Group>,
        known: Vec<Arc<Peer>>,
    ) {
        let mut all = self.all();
        let old = |orphan: &Orphan| orphan.since.elapsed() >= REMEMBER_FOR;
        while all.len() >= MAX_REMEMBERED || all.front().is_some_and(old) {
            all.pop_front();
        }
        all.push_back(Orphan { call, session, group: group.clone(), known, since: Instant::now() });
    }

    /// What to tell the worker that took a call after its end: its own subject, and the session's end.
    pub(super) fn end_of(&self, ack: &Ack) -> Option<(String, Bytes)> {
        let all = self.all();
        let orphan = all.iter().rev().find(|orphan| orphan.call == ack.id)?;
        let worker = ack.worker.as_str();
        if orphan.known.iter().any(|known| known.name() == worker) {
            return None;
        }
        let subject = orphan.group.subjects.worker(worker).ok()?;
        Some((subject, session::end_of(orphan.session)?))
    }
}
