//! A call in flight, as those see it who bring its answers.

use super::peer::Peer;
use super::workers::Group;
use bytes::Bytes;
use nylon_wire::{CallId, Kind, WireError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// What came in for a call.
#[derive(Debug)]
pub(super) enum Event {
    /// The server knows nobody who listens where this message of the call was sent.
    NoResponders(u32),
    /// A frame of a worker, on the reply subject of this message of the call.
    Frame(u32, Kind, Bytes),
    /// Something that is no frame.
    Malformed(WireError),
    /// A worker has the call: news only for one that asked to be woken for it.
    Taken(u32),
    /// The connection is lost.
    Lost,
}

/// A call in flight.
pub(super) struct OpenCall {
    pub(super) id: CallId,
    pub(super) group: Arc<Group>,
    /// The worker in whose load the call counts: the one it was sent to, or that took it.
    pub(super) worker: Option<Arc<Peer>>,
    /// Which message of the call the worker took, once it did.
    pub(super) taken: Option<u32>,
    /// That worker was granted the call, so no other one has it.
    pub(super) pinned: bool,
    /// How often it was sent.
    pub(super) sendings: u32,
    /// Workers that say they have it too.
    pub(super) others: Vec<Arc<Peer>>,
    /// Wake the call when a worker takes it.
    pub(super) watching: bool,
    pub(super) news: bool,
    pub(super) lost: bool,
    pub(super) events: VecDeque<Event>,
    pub(super) waker: Option<Waker>,
}

impl OpenCall {
    /// Counts the call in the load of `worker` from now on. `freed` if that makes room where it was before: a worker
    /// that refused the call, or does not answer, has none.
    pub(super) fn assign(&mut self, worker: Option<Arc<Peer>>, freed: bool) {
        let same = match (&self.worker, &worker) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if same {
            return;
        }
        if let Some(new) = &worker {
            self.group.load(new);
        }
        if let Some(old) = std::mem::replace(&mut self.worker, worker) {
            self.group.unload(&old, freed);
        }
    }

    pub(super) fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if std::mem::take(&mut self.news)
            && let Some(taken) = self.taken
        {
            return Some(Event::Taken(taken));
        }
        std::mem::take(&mut self.lost).then_some(Event::Lost)
    }
}
