//! A session's home: the worker that has its closures.

use super::connection::Connection;
use super::mirror::Mirrored;
use super::workers::{Group, Known};
use nylon_core::PhaseMask;
use nylon_wire::{Close, SessionId, Text};
use std::sync::Arc;

/// One entry on one group.
pub(super) struct Served {
    pub(super) group: Arc<Group>,
    pub(super) known: Known,
}

/// What the gateway keeps of a session between its phases. Dropping it tells the worker, if that one keeps
/// anything for it.
pub(super) struct RemoteSession {
    connection: Arc<Connection>,
    /// The group that serves all its phases, whatever is loaded meanwhile.
    pub(super) on: Arc<Served>,
    pub(super) id: SessionId,
    pub(super) home: Option<Home>,
    /// The copy of the session on the plugin's mirror.
    pub(super) mirrored: Option<Mirrored>,
}

/// The worker that took the session's first phase.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) worker: Text,
    /// The worker's own subject.
    pub(super) subject: String,
    /// It keeps something for the session, so later phases must go there.
    pub(super) keeps: bool,
    /// The phases it has handlers for, where it said so.
    pub(super) phases: Option<PhaseMask>,
}

impl RemoteSession {
    pub(super) fn new(connection: &Arc<Connection>, on: &Arc<Served>) -> RemoteSession {
        let (connection, on) = (connection.clone(), on.clone());
        RemoteSession { id: connection.new_session(), connection, on, home: None, mirrored: None }
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        let Some(home) = self.home.take().filter(|home| home.keeps) else { return };
        let mut frame = Vec::with_capacity(40);
        let close = Close { session: self.id };
        if close.encode(&mut frame).is_ok() {
            self.connection.send_behind(home.subject, frame.into());
        }
    }
}
