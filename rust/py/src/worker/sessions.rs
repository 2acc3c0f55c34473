//! The sessions that live on this worker: closures made by an entry's `setup` function.
//!
//! The gateway says when a session ends. One that fell silent cannot, so a gateway from which nothing was heard for
//! a while loses its sessions here; the first eight bytes of a session's id name it.

use nylon_wire::SessionId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Sessions that one worker keeps at most; a further one is refused, so that another worker takes it.
const MAX_SESSIONS: usize = 65_536;
/// How long a gateway may be silent. Its slowest download should not lose its `logging` phase.
const MAX_SILENCE: Duration = Duration::from_secs(600);

/// Why there is no session for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// It was never opened here, or has expired.
    Unknown,
    /// Too many are open.
    Full,
}

/// Open sessions and when their gateways were heard last.
pub(crate) struct Sessions<T> {
    open: HashMap<SessionId, T>,
    gateways: HashMap<[u8; 8], Instant>,
}

fn gateway(id: SessionId) -> [u8; 8] {
    let mut gateway = [0; 8];
    gateway.copy_from_slice(&id.0[..8]);
    gateway
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Sessions { open: HashMap::new(), gateways: HashMap::new() }
    }
}

impl<T: Clone + Default> Sessions<T> {
    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// What the session keeps; a new one where it `may_open`.
    pub(crate) fn enter(&mut self, id: SessionId, may_open: bool, now: Instant) -> Result<T, NoSession> {
        if let Some(kept) = self.open.get(&id) {
            self.gateways.insert(gateway(id), now);
            return Ok(kept.clone());
        }
        if !may_open {
            return Err(NoSession::Unknown);
        }
        if self.open.len() >= MAX_SESSIONS {
            return Err(NoSession::Full);
        }
        self.gateways.insert(gateway(id), now);
        Ok(self.open.entry(id).or_default().clone())
    }

    /// Ends a session. What it kept is given back, to be dropped where no lock is held.
    pub(crate) fn close(&mut self, id: SessionId) -> Option<T> {
        self.open.remove(&id)
    }

    /// Ends the sessions of gateways that fell silent.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<T> {
        let before = self.gateways.len();
        self.gateways.retain(|_, heard| now.saturating_duration_since(*heard) < MAX_SILENCE);
        if self.gateways.len() == before {
            return Vec::new();
        }
        let silent: Vec<_> =
            self.open.keys().copied().filter(|id| !self.gateways.contains_key(&gateway(*id))).collect();
        silent.into_iter().filter_map(|id| self.open.remove(&id)).collect()
    }

    /// Ends all of them.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.gateways.clear();
        self.open.drain().map(|(_, kept)| kept).collect()
    }
}
