//! One process of a plugin, from its announcement to its end, as the calls see it.

use super::inbox::{Event, Inbox};
use super::outbox::{Outbox, Unsent};
use super::socket::{Frame, framed};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_wire::{CallId, Close, CreditFrame, Envelope, SessionId, Text, Which, WireError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

/// Calls that one process has at once. More would only time out.
const MAX_CALLS: usize = 4096;

/// A process that has announced itself.
pub(super) struct Child {
    /// What it calls itself in its frames.
    pub(super) name: Text,
    pub(super) pid: u32,
    pub(super) since: Instant,
    outbox: Arc<Outbox>,
    calls: Mutex<Calls>,
    /// It has let the time of a call go by, and nothing has come from it since.
    silent: AtomicBool,
    pub(super) answered: AtomicU64,
}

#[derive(Default)]
struct Calls {
    open: HashMap<CallId, Arc<Inbox>>,
    ended: bool,
}

/// Why a call could not be given to a process.
pub(super) enum Refused {
    /// It has ended.
    Ended,
    /// It has as many as it may have.
    Full,
}

impl Child {
    pub(super) fn new(name: Text, pid: u32, outbox: Arc<Outbox>) -> Child {
        let (calls, silent, answered) = (Mutex::default(), AtomicBool::new(false), AtomicU64::new(0));
        Child { name, pid, since: Instant::now(), outbox, calls, silent, answered }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that it has.
    pub(super) fn load(&self) -> usize {
        self.calls().open.len()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    pub(super) fn note_silence(&self) {
        self.silent.store(true, Relaxed);
    }

    /// Opens a call, before it is sent.
    pub(super) fn open(self: &Arc<Self>, id: CallId) -> Result<OpenCall, Refused> {
        let inbox = Arc::<Inbox>::default();
        let mut calls = self.calls();
        if calls.ended {
            return Err(Refused::Ended);
        }
        if calls.open.len() >= MAX_CALLS {
            return Err(Refused::Full);
        }
        calls.open.insert(id, inbox.clone());
        drop(calls);
        // Nothing is to be taken back before it is sent.
        Ok(OpenCall { child: self.clone(), id, inbox, over: true })
    }

    /// Hands a frame to the call that it is about.
    ///
    /// # Errors
    /// When it is none that a process may send.
    pub(super) fn receive(&self, frame: Bytes) -> Result<(), WireError> {
        self.silent.store(false, Relaxed);
        let Envelope { kind, id, .. } = Envelope::peek(&frame)?;
        let Some(id) = id else { return Err(WireError::Missing { what: "call id (id)" }) };
        let inbox = self.calls().open.get(&id).cloned();
        match inbox {
            // Of a call that was given up.
            None => Ok(()),
            Some(inbox) if inbox.push(kind, frame) => Ok(()),
            Some(_) => Err(WireError::Invalid { what: "a frame", why: "there was no room for it" }),
        }
    }

    /// It has ended: all its calls are told.
    pub(super) fn end(&self) {
        self.outbox.close();
        let open = {
            let mut calls = self.calls();
            calls.ended = true;
            std::mem::take(&mut calls.open)
        };
        open.into_values().for_each(|inbox| inbox.end());
    }

    /// A session is over.
    pub(super) fn close(&self, session: SessionId) {
        self.tell(|out| Close { session }.encode(out));
    }

    /// Sends a small frame that nobody waits for.
    fn tell(&self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) {
        match framed(encode) {
            // One that has ended knows nothing of calls and sessions any more.
            Ok(frame) => drop(self.outbox.send(frame)),
            Err(why) => tracing::error!("a frame for a plugin's process could not be written: {why}"),
        }
    }
}

/// A call that a process has. Dropping it gives the call up, unless it is over.
pub(super) struct OpenCall {
    pub(super) child: Arc<Child>,
    pub(super) id: CallId,
    inbox: Arc<Inbox>,
    over: bool,
}

impl OpenCall {
    pub(super) async fn event(&self) -> Event {
        self.inbox.event().await
    }

    pub(super) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Event> {
        self.inbox.poll(cx)
    }

    /// Sends the call itself, once there is room on the way.
    pub(super) async fn begin(&mut self, frame: Frame, deadline: Instant) -> Result<(), Unsent> {
        self.send(frame, deadline).await?;
        self.over = false;
        Ok(())
    }

    /// Sends a frame of the call, once there is room on the way.
    pub(super) async fn send(&self, frame: Frame, deadline: Instant) -> Result<(), Unsent> {
        self.child.outbox.send_by(frame, deadline).await
    }

    /// Says how far a stream may go, or that nobody takes any more of it.
    pub(super) fn tell_room(&self, up_to: Result<u64, Failure>) {
        self.child.tell(|out| CreditFrame { id: self.id, which: Which::Stream, up_to }.encode(out));
    }

    /// The process has ended it.
    pub(super) fn over(&mut self) {
        self.over = true;
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.child.calls().open.remove(&self.id);
        if !self.over {
            self.tell_room(Err(Failure::new(FailureKind::Cancelled, "nobody waits for the result any more")));
        }
    }
}
