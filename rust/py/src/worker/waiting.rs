//! Calls that wait for their gateway: for a body that did not travel along, or for leave to run.
//!
//! Leave is asked for where a call must not run twice, and where it may have gone to another worker while this one
//! stood still. Without leave nothing runs, and nothing is said either: whoever has the call answers for it.

use super::begin::Ready;
use super::bodies::{Received, STALL};
use super::call::RemoteCall;
use super::clock::Moment;
use super::receive::{Arrived, MAX_REMAINING};
use super::report;
use super::shared::{Shared, locked};
use crate::context::wake_readers;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_wire::{BodyFrame, BodyPart, CallId, Claim, Grant, Which, WireError};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The longest wait for a body that a handler was registered to find.
const MAX_BODY_WAIT: Duration = Duration::from_secs(600);
/// The longest wait for the answer to a claim. Short, because the call has a slot meanwhile, and a gateway answers at
/// once or, for a call that it has forgotten, not at all.
const MAX_CLAIM_WAIT: Duration = Duration::from_secs(1);

/// A call that waits.
pub(crate) struct Waiting {
    held: Held,
    awaited: Awaited,
    due: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Awaited {
    Body,
    Grant { asked: Moment },
}

/// How far a call had come when it had to wait.
pub(crate) enum Held {
    /// As it arrived.
    Arrived(Box<Arrived>),
    /// With a context, on its way to a thread or in its batch.
    Ready(Ready),
}

impl Held {
    fn id(&self) -> CallId {
        match self {
            Held::Arrived(call) => call.origin.id,
            Held::Ready(call) => call.call.owner.origin.id,
        }
    }

    fn reply(&self) -> &Bytes {
        match self {
            Held::Arrived(call) => &call.origin.reply,
            Held::Ready(call) => &call.call.owner.origin.reply,
        }
    }
}

impl Shared {
    fn wait(&self, held: Held, awaited: Awaited, due: Instant) {
        let old = locked(&self.waiting).insert(held.id(), Waiting { held, awaited, due });
        drop(old);
    }

    // ---- for leave to run ----

    /// Asks the gateway whether a call may run, from any thread.
    pub(crate) fn claim(&self, held: Held) {
        let (id, worker) = (held.id(), self.setup.worker.clone());
        self.counters.claims.fetch_add(1, Relaxed);
        let reply = held.reply().clone();
        let awaited = Awaited::Grant { asked: Moment::now() };
        // First it waits, then it asks: the answer may come at once, on another thread.
        self.wait(held, awaited, Instant::now() + MAX_CLAIM_WAIT);
        self.sign(&reply, |out| Claim { id, worker }.encode(out));
    }

    /// The answer to a claim. One for a call that is over counts for nothing.
    pub(crate) fn receive_grant(
        self: &Arc<Self>,
        frame: &Bytes,
        ready: &mut Vec<Ready>,
    ) -> Result<(), WireError> {
        let Grant { id, granted } = Grant::decode(frame)?;
        let Some((held, asked)) = self.take_claimed(id) else { return Ok(()) };
        if !granted {
            self.drop_claimed(held);
        } else if self.watch.has_stalled_since(asked) {
            // The answer itself has waited through a stall.
            self.claim(held);
        } else {
            match held {
                Held::Arrived(mut call) => {
                    call.ours_since = asked;
                    self.proceed(*call, ready);
                }
                Held::Ready(mut call) => {
                    call.ours_since = asked;
                    self.begin(call, ready);
                }
            }
        }
        Ok(())
    }

    fn take_claimed(&self, id: CallId) -> Option<(Held, Moment)> {
        let mut waiting = locked(&self.waiting);
        let Awaited::Grant { asked } = waiting.get(&id)?.awaited else { return None };
        waiting.remove(&id).map(|call| (call.held, asked))
    }

    /// Another worker has the call, or nobody wants it any more. It has not run here, and may come again.
    fn drop_claimed(&self, held: Held) {
        self.counters.denied.fetch_add(1, Relaxed);
        let id = held.id();
        match held {
            Held::Arrived(call) => {
                self.release();
                drop(call);
            }
            Held::Ready(ready) => {
                // Nobody would end a session that began with a call of another worker.
                let begun = ready.begun.and_then(|session| locked(&self.sessions).close(session));
                drop(begun);
                RemoteCall::abandon(&ready.call);
            }
        }
        locked(&self.known).leave(id);
    }

    // ---- for a body ----

    /// Asks for the body of a call whose handler was registered to find it.
    pub(crate) fn await_body(&self, call: Arrived, which: Which) {
        if !self.ask_body(&call.origin, which) {
            const WHY: &str = "the gateway cannot be asked for the body: too much waits for the broker";
            self.refuse(&call.origin, FailureKind::Overloaded, WHY);
            self.release();
            return;
        }
        self.wait(Held::Arrived(Box::new(call)), Awaited::Body, Instant::now() + MAX_BODY_WAIT);
    }

    /// A body that was asked for. One for a call that is over, or did not wait for it, counts for nothing.
    pub(crate) fn receive_body(
        self: &Arc<Self>,
        py: Python<'_>,
        frame: &Bytes,
        ready: &mut Vec<Ready>,
    ) -> Result<(), WireError> {
        let frame = BodyFrame::decode(frame)?;
        let (id, which) = (frame.id, frame.which);
        let (now, left) = (Instant::now(), frame.remaining.min(MAX_REMAINING));
        if let Some(mut call) = self.take_awaiting_body(id) {
            match (self.take_part(&call.origin, frame), which) {
                (Received::Part, _) => {
                    self.wait(Held::Arrived(Box::new(call)), Awaited::Body, now + left.max(STALL));
                    return Ok(());
                }
                (Received::Done(Err(failure)), _) => {
                    self.refuse(&call.origin, failure.kind, failure.message);
                    self.release();
                    return Ok(());
                }
                (Received::Done(Ok(bytes)), Which::Request) => {
                    call.frame.request_body = BodyPart::Bytes(bytes);
                }
                (Received::Done(Ok(bytes)), _) => call.frame.response_body = BodyPart::Bytes(bytes),
            }
            call.due = now + left;
            self.prepare(call, ready);
        } else if let Some(call) = self.running(id) {
            match self.take_part(&call.owner.origin, frame) {
                Received::Part => call.owner.put_off(now + left.max(STALL)),
                Received::Done(body) => {
                    call.owner.put_off(now + left);
                    call.supply_body(body);
                    if let Err(error) = wake_readers(py, &*call) {
                        report::error(py, "handing a body to its handler failed", &error);
                    }
                }
            }
        }
        Ok(())
    }

    fn take_awaiting_body(&self, id: CallId) -> Option<Arrived> {
        let mut waiting = locked(&self.waiting);
        match waiting.get(&id)? {
            Waiting { held: Held::Arrived(_), awaited: Awaited::Body, .. } => {}
            _ => return None,
        }
        match waiting.remove(&id)?.held {
            Held::Arrived(call) => Some(*call),
            Held::Ready(_) => None,
        }
    }

    // ---- for too long ----

    /// Gives up calls that have waited too long, or all.
    pub(crate) fn give_up_waiting(&self, all: Option<&Failure>) {
        let now = Instant::now();
        let over: Vec<_> = {
            let mut waiting = locked(&self.waiting);
            waiting.extract_if(|_, call| all.is_some() || call.due <= now).map(|(_, call)| call).collect()
        };
        for Waiting { held, awaited, .. } in over {
            match (held, awaited) {
                (Held::Arrived(call), Awaited::Body) => {
                    const NO_BODY: &str = "the gateway did not send the body in time";
                    let failure =
                        all.cloned().unwrap_or_else(|| Failure::new(FailureKind::TimedOut, NO_BODY));
                    self.transfers.forget(call.origin.id);
                    self.refuse(&call.origin, failure.kind, failure.message);
                    self.release();
                }
                (held, _) => self.drop_claimed(held),
            }
        }
    }
}
