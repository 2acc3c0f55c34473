//! A session's home: the worker that has its closures.

use super::connection::Connection;
use super::entries::Known;
use super::mirror::Mirrored;
use super::peer::Peer;
use super::workers::Group;
use bytes::Bytes;
use nylon_core::PhaseMask;
use nylon_wire::{Close, SessionId};
use std::sync::Arc;

/// One entry on one group.
pub(super) struct Served {
    pub(super) group: Arc<Group>,
    pub(super) known: Known,
}

/// What the gateway keeps of a session between its phases. Dropping it tells the workers that keep anything for it.
pub(super) struct RemoteSession {
    connection: Arc<Connection>,
    /// The group that serves all its phases, whatever is loaded meanwhile.
    pub(super) on: Arc<Served>,
    pub(super) id: SessionId,
    pub(super) home: Option<Home>,
    /// Workers that took its first phase before the call went elsewhere: they may have opened it, too.
    pub(super) left: Vec<Arc<Peer>>,
    /// The copy of the session on the plugin's mirror.
    pub(super) mirrored: Option<Mirrored>,
}

/// The worker that took the session's first phase.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) peer: Arc<Peer>,
    /// It keeps something for the session, so later phases must go there.
    pub(super) keeps: bool,
    /// The phases it has handlers for, where it said so.
    pub(super) phases: Option<PhaseMask>,
}

impl RemoteSession {
    pub(super) fn new(connection: &Arc<Connection>, on: &Arc<Served>) -> RemoteSession {
        let (connection, on) = (connection.clone(), on.clone());
        RemoteSession {
            id: connection.new_session(),
            connection,
            on,
            home: None,
            left: Vec::new(),
            mirrored: None,
        }
    }
}

/// The frame that tells a worker that a session is over. There is always one: only a frame with texts can be too large.
pub(super) fn end_of(session: SessionId) -> Option<Bytes> {
    let mut frame = Vec::with_capacity(40);
    Close { session }.encode(&mut frame).ok()?;
    Some(frame.into())
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        let home = self.home.take().filter(|home| home.keeps).map(|home| home.peer);
        if home.is_none() && self.left.is_empty() {
            return;
        }
        let Some(frame) = end_of(self.id) else { return };
        let is_home = |peer: &Arc<Peer>| home.as_ref().is_some_and(|home| Arc::ptr_eq(home, peer));
        let others: Vec<_> = self.left.drain(..).filter(|peer| !is_home(peer)).collect();
        for peer in others.into_iter().chain(home.clone()) {
            self.connection.send_behind(peer.subject.clone(), frame.clone());
        }
    }
}
