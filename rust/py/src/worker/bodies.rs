//! Bodies that travel in parts: those that handlers ask for, and those that they have made.
//!
//! A body that a handler made goes out before its reply, as far as the gateway has room; then the reply only names
//! its size. So a reply stays small whatever it carries, and can be sent again from memory. A transfer keeps a
//! slot of the worker for itself: what is held for slow gateways is bounded by the concurrency.

use super::call::Origin;
use super::clock::Moment;
use super::outbox::Refused;
use super::shared::{Shared, Unsent, locked};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Outcome};
use nylon_wire::{
    BodyFrame, CallId, ChunkFrame, CreditFrame, Incoming, Outgoing, ReadFrame, Reply, Which, WireError,
    limits,
};
use pyo3::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The longest that a transfer may stand still: longer than the gateway's own patience.
pub(crate) const STALL: Duration = Duration::from_secs(10);

/// The transfers of one worker, by call.
#[derive(Default)]
pub(crate) struct Transfers {
    incoming: Mutex<HashMap<CallId, (Which, Incoming)>>,
    outgoing: Mutex<HashMap<CallId, Arc<Mutex<Sending>>>>,
}

/// What a body frame of the gateway came to.
pub(crate) enum Received {
    /// All of it is here, or will never be.
    Done(Result<Bytes, Failure>),
    /// More is to come.
    Part,
}

/// A reply whose bodies go ahead of it.
struct Sending {
    origin: Origin,
    reply: Reply,
    bodies: VecDeque<(Which, Outgoing)>,
    moved: Instant,
}

impl Transfers {
    /// The call is over: what came of a body for it goes.
    pub(crate) fn forget(&self, id: CallId) {
        let parts = locked(&self.incoming).remove(&id);
        drop(parts);
    }
}

impl Shared {
    /// Asks the gateway for a body. False where nothing more can be sent.
    pub(crate) fn ask_body(&self, origin: &Origin, which: Which) -> bool {
        let parts = Incoming::new(limits::WINDOW);
        let old = locked(&self.transfers.incoming).insert(origin.id, (which, parts));
        drop(old);
        self.read_on(origin, which, limits::WINDOW)
    }

    fn read_on(&self, origin: &Origin, which: Which, up_to: u64) -> bool {
        let worker = self.setup.worker.clone();
        let frame = ReadFrame { id: origin.id, worker, which, up_to: Some(up_to) };
        self.publish(&origin.reply, |out| frame.encode(out)).is_ok()
    }

    /// Takes a part of a body that `origin`'s handler waits for.
    pub(crate) fn take_part(&self, origin: &Origin, frame: BodyFrame) -> Received {
        let BodyFrame { id, which, body, .. } = frame;
        let part = match body {
            Ok(part) if part.is_whole() => {
                self.transfers.forget(id);
                return Received::Done(Ok(part.data));
            }
            Ok(part) => part,
            Err(failure) => {
                self.transfers.forget(id);
                return Received::Done(Err(failure));
            }
        };
        let taken = {
            let mut incoming = locked(&self.transfers.incoming);
            match incoming.get_mut(&id) {
                Some((wanted, parts)) if *wanted == which => match parts.take(&part, u64::MAX) {
                    Ok(true) => Ok(incoming.remove(&id)),
                    Ok(false) => Err(Ok(parts.room())),
                    Err(why) => Err(Err(why)),
                },
                // Of a body that nobody waits for.
                _ => Err(Ok(None)),
            }
        };
        match taken {
            Ok(complete) => {
                Received::Done(Ok(complete.map(|(_, parts)| parts.into_body()).unwrap_or_default()))
            }
            Err(Ok(room)) => {
                // If it cannot be said now, the transfer stands still and ends by its clock.
                let _unsaid = room.is_some_and(|up_to| self.read_on(origin, which, up_to));
                Received::Part
            }
            Err(Err(why)) => {
                self.transfers.forget(id);
                let why = format!("the gateway's body was broken off: {why}");
                Received::Done(Err(Failure::new(FailureKind::Protocol, why)))
            }
        }
    }

    /// Sends a reply, its large bodies first.
    pub(crate) fn send_reply(&self, origin: Origin, mut reply: Reply) {
        let max_payload = self.max_payload();
        let bodies = reply.take_apart(limits::INLINE_BODY.min(max_payload / 4));
        if bodies.is_empty() || origin.reply.is_empty() {
            return self.reply(&origin, reply);
        }
        // The first part goes unasked; the gateway answers it with room for more.
        let cut = |(which, body)| (which, Outgoing::new(body, max_payload, 1));
        let bodies = bodies.into_iter().map(cut).collect();
        let id = origin.id;
        let sending = Arc::new(Mutex::new(Sending { origin, reply, bodies, moved: Instant::now() }));
        self.hold();
        locked(&self.transfers.outgoing).insert(id, sending.clone());
        self.pump(id, &sending);
    }

    /// The gateway has room for more of what a handler made.
    pub(crate) fn receive_credit(&self, py: Python<'_>, frame: &Bytes) -> Result<(), WireError> {
        let credit = CreditFrame::decode(frame)?;
        if credit.which == Which::Stream {
            self.receive_room(py, credit);
            return Ok(());
        }
        let CreditFrame { id, which, up_to } = credit;
        let sending = locked(&self.transfers.outgoing).get(&id).cloned();
        match (sending, up_to) {
            (None, _) => {}
            // The gateway has given the call up, and nobody waits for its reply.
            (Some(_), Err(_)) => self.end_transfer(id),
            (Some(sending), Ok(up_to)) => {
                if let Some((current, body)) = locked(&sending).bodies.front_mut()
                    && *current == which
                {
                    body.grant(up_to);
                }
                self.pump(id, &sending);
            }
        }
        Ok(())
    }

    /// Sends what there is room for; behind the last part the reply.
    fn pump(&self, id: CallId, sending: &Mutex<Sending>) {
        let mut guard = locked(sending);
        let Sending { origin, reply, bodies, moved } = &mut *guard;
        while let Some((which, body)) = bodies.front_mut() {
            while self.has_room(limits::MAX_PART) {
                let Some(part) = body.next() else { break };
                let (worker, which) = (self.setup.worker.clone(), *which);
                let (number, total, data) = (part.number, part.total, part.data);
                let chunk = ChunkFrame { id, worker, which, number, total, data, end: None };
                if let Err(why) = self.publish(&origin.reply, |out| chunk.encode(out)) {
                    let why = format!("the handler's body could not be sent: {why}");
                    let failure = Failure::new(FailureKind::Overloaded, why);
                    *reply = Reply {
                        shape: reply.shape,
                        ..Reply::new(id, reply.worker.clone(), Outcome::Failed(failure))
                    };
                    bodies.clear();
                    return self.end_sending(id, guard);
                }
                *moved = Instant::now();
            }
            if !body.is_done() {
                return;
            }
            bodies.pop_front();
        }
        self.end_sending(id, guard);
    }

    fn end_sending(&self, id: CallId, sending: std::sync::MutexGuard<'_, Sending>) {
        let removed = locked(&self.transfers.outgoing).remove(&id);
        if removed.is_some() {
            self.reply(&sending.origin, sending.reply.clone());
            self.release();
        }
    }

    fn end_transfer(&self, id: CallId) {
        let removed = locked(&self.transfers.outgoing).remove(&id);
        if removed.is_some() {
            // It has run; there is no reply that could be given again.
            locked(&self.known).end(id, b"", Moment::now());
            self.release();
        }
    }

    /// Goes on with transfers that found the way out full, and gives up those that stand still.
    pub(crate) fn look_after_transfers(&self, all: bool) {
        let sending: Vec<_> =
            locked(&self.transfers.outgoing).iter().map(|(id, sending)| (*id, sending.clone())).collect();
        for (id, sending) in sending {
            let stalled = locked(&sending).moved.elapsed() > STALL;
            match all || stalled {
                true => self.end_transfer(id),
                false => self.pump(id, &sending),
            }
        }
    }
}

impl std::fmt::Display for Unsent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unsent::Refused(Refused::Full) => f.write_str("too much waits for the broker"),
            Unsent::Refused(Refused::TooLarge { limit }) => {
                write!(f, "it is over the broker's max_payload of {limit} bytes")
            }
            Unsent::Wire(error) => error.fmt(f),
        }
    }
}
