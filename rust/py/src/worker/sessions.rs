//! The sessions that live on this worker: closures made by an entry's `setup` function.
//!
//! The gateway says when a session ends. A gateway that fell silent cannot (the first eight bytes of a session's id
//! name it), and one that never learned that a call of its came here does not: the sessions of the former end
//! after a while of silence, any other after a long time without a call.

use nylon_wire::SessionId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Sessions that one worker keeps at most; a further one is refused, so that another worker takes it.
const MAX_SESSIONS: usize = 65_536;
/// How long a gateway may be silent.
const MAX_SILENCE: Duration = Duration::from_secs(600);
/// How long a session may go without a call: a slow download should not lose its `logging` phase.
const MAX_IDLE: Duration = Duration::from_secs(6 * 3600);
/// How often all sessions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why there is no session for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// It was never opened here, or has expired.
    Unknown,
    /// Too many are open.
    Full,
}

struct Session<T> {
    kept: T,
    used: Instant,
}

/// Open sessions and when their gateways were heard last.
pub(crate) struct Sessions<T> {
    open: HashMap<SessionId, Session<T>>,
    gateways: HashMap<[u8; 8], Instant>,
    looked: Instant,
}

fn gateway(id: SessionId) -> [u8; 8] {
    let mut gateway = [0; 8];
    gateway.copy_from_slice(&id.0[..8]);
    gateway
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Sessions { open: HashMap::new(), gateways: HashMap::new(), looked: Instant::now() }
    }
}

impl<T: Clone + Default> Sessions<T> {
    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// What the session keeps, and whether it is new; a new one only where it `may_open`.
    pub(crate) fn enter(
        &mut self,
        id: SessionId,
        may_open: bool,
        now: Instant,
    ) -> Result<(T, bool), NoSession> {
        if let Some(session) = self.open.get_mut(&id) {
            session.used = now;
            let kept = session.kept.clone();
            self.gateways.insert(gateway(id), now);
            return Ok((kept, false));
        }
        if !may_open {
            return Err(NoSession::Unknown);
        }
        if self.open.len() >= MAX_SESSIONS {
            return Err(NoSession::Full);
        }
        self.gateways.insert(gateway(id), now);
        let kept = T::default();
        self.open.insert(id, Session { kept: kept.clone(), used: now });
        Ok((kept, true))
    }

    /// Ends a session. What it kept is given back, to be dropped where no lock is held.
    pub(crate) fn close(&mut self, id: SessionId) -> Option<T> {
        self.open.remove(&id).map(|session| session.kept)
    }

    /// Ends the sessions that nobody will end.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<T> {
        if now.saturating_duration_since(self.looked) < LOOK_EVERY {
            return Vec::new();
        }
        self.looked = now;
        self.gateways.retain(|_, heard| now.saturating_duration_since(*heard) < MAX_SILENCE);
        let Sessions { open, gateways, .. } = self;
        let over = |id: &SessionId, session: &mut Session<T>| {
            !gateways.contains_key(&gateway(*id)) || now.saturating_duration_since(session.used) >= MAX_IDLE
        };
        open.extract_if(over).map(|(_, session)| session.kept).collect()
    }

    /// Ends all of them.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.gateways.clear();
        self.open.drain().map(|(_, session)| session.kept).collect()
    }
}
