//! What the gateway keeps of a session between its phases.

use super::child::Child;
use nylon_wire::SessionId;
use std::sync::Arc;

/// A session of an entry. Dropping it tells the process that keeps anything for it.
pub(super) struct ProcessSession {
    pub(super) id: SessionId,
    /// The process that keeps something for it, or may do so: it was sent a call.
    pub(super) home: Option<Arc<Child>>,
}

impl ProcessSession {
    pub(super) fn new(id: SessionId) -> ProcessSession {
        ProcessSession { id, home: None }
    }
}

impl Drop for ProcessSession {
    fn drop(&mut self) {
        if let Some(child) = &self.home {
            child.close(self.id);
        }
    }
}
