//! The members of one group: every worker that is known, and what is known of their entries.

use super::entries::Known;
use super::peer::Peer;
use nylon_wire::EntryShape;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Under the lock of their group.
#[derive(Default)]
pub(super) struct Members {
    pub(super) all: HashMap<Box<str>, Member>,
    pub(super) entries: HashMap<String, Known>,
    numbered: u32,
}

/// One worker.
pub(super) struct Member {
    pub(super) peer: Arc<Peer>,
    /// What it said of itself. One that has not, or that left, gets no first calls.
    pub(super) shapes: Option<HashMap<String, EntryShape>>,
    pub(super) seen: Instant,
}

impl Members {
    pub(super) fn live(&self) -> impl Iterator<Item = (&Arc<Peer>, &HashMap<String, EntryShape>)> {
        self.all.values().filter_map(|member| Some((&member.peer, member.shapes.as_ref()?)))
    }

    pub(super) fn new_peer(&mut self, id: &str, subject: String, roll: u32) -> Arc<Peer> {
        self.numbered = self.numbered.wrapping_add(1);
        Arc::new(Peer::new(id, subject, self.numbered, roll))
    }

    pub(super) fn shapes(&self, entry: &str) -> impl Iterator<Item = &EntryShape> {
        self.live().filter_map(move |(_, shapes)| shapes.get(entry))
    }

    pub(super) fn publish(&self) {
        for (name, known) in &self.entries {
            known.update(self.shapes(name));
        }
    }
}
