//! From a message's bytes to a call that may begin, on the loop's thread.
//!
//! A batch is handled in two steps: first every message is looked at, acknowledged or refused, and what goes to
//! the pool is handed over; the acknowledgements are written, and then the handlers run that run here. So with
//! asyncio's own loop a gateway knows who has its call before any handler of the batch can block or end the
//! process; uvloop writes at the end of its turn, after the handlers' first steps.

use super::begin::Ready;
use super::call::Origin;
use super::clock::Moment;
use super::known::Known;
use super::report;
use super::sessions::NoSession;
use super::shared::{Shared, locked};
use super::waiting::Held;
use crate::registry::{Entry, SessionHandlers};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Phase};
use nylon_wire::{
    BodyPart, Busy, CallFrame, CallId, Close, EntryShape, Envelope, Kind, SessionId, Which, WireError,
};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The longest that a call may say it has: a clock must be able to hold it.
pub(crate) const MAX_REMAINING: Duration = Duration::from_secs(24 * 3600);

/// A call that has been taken.
pub(crate) struct Arrived {
    pub(crate) frame: CallFrame,
    pub(crate) entry: Arc<Entry>,
    pub(crate) session: Option<Arc<SessionHandlers>>,
    /// The session that began with it.
    pub(crate) begun: Option<SessionId>,
    /// Whether a session may begin with it: it came by the queue group, or is the first of its exchange.
    may_open: bool,
    pub(crate) origin: Origin,
    /// When its result is due.
    pub(crate) due: Instant,
    /// Since when it is surely ours to run.
    pub(crate) ours_since: Moment,
}

/// What an entry wants, as the wire says it.
pub(crate) fn shape_of(entry: &Entry) -> EntryShape {
    EntryShape {
        phases: entry.phases(),
        request_body: entry.shape(Phase::RequestFilter).is_some_and(|shape| shape.body),
        stream: entry.shape(Phase::ResponseBodyFilter).is_some_and(|shape| shape.stream),
        session: entry.keeps_sessions(),
        ..EntryShape::default()
    }
}

impl Shared {
    /// Looks at one message. A handler that is to run on the loop is added to `ready`.
    pub(crate) fn receive(
        self: &Arc<Self>,
        py: Python<'_>,
        own: bool,
        reply: Bytes,
        frame: &Bytes,
        ready: &mut Vec<Ready>,
    ) {
        let peeked = Envelope::peek(frame);
        let id = peeked.as_ref().ok().and_then(|envelope| envelope.id);
        let handled = match peeked {
            Ok(Envelope { kind: Kind::Call, .. }) => self.receive_call(own, &reply, frame, ready),
            Ok(Envelope { kind: Kind::Body, .. }) if own => self.receive_body(py, frame, ready),
            Ok(Envelope { kind: Kind::Credit, .. }) if own => self.receive_credit(py, frame),
            Ok(Envelope { kind: Kind::Probe, .. }) if own => self.answer_probe(frame, &reply),
            Ok(Envelope { kind: Kind::Grant, .. }) if own => self.receive_grant(frame, ready),
            Ok(Envelope { kind: Kind::Close, .. }) if own => Close::decode(frame).map(|close| {
                let kept = locked(&self.sessions).close(close.session);
                drop(kept);
            }),
            Ok(envelope) => Err(WireError::Kind { found: envelope.kind.name().to_owned() }),
            Err(error) => Err(error),
        };
        if let Err(error) = handled {
            self.malformed(py, id, reply, &error);
        }
    }

    fn malformed(&self, py: Python<'_>, id: Option<CallId>, reply: Bytes, error: &WireError) {
        let count = self.counters.malformed.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            report::warning(py, &format!("a message is not a frame for a worker: {error} ({count} so far)"));
        }
        let why = format!("the worker cannot read the call: {error}");
        self.refuse_message(id.unwrap_or(CallId([0; 16])), &reply, why);
    }

    fn receive_call(
        self: &Arc<Self>,
        own: bool,
        reply: &Bytes,
        frame: &Bytes,
        ready: &mut Vec<Ready>,
    ) -> Result<(), WireError> {
        let frame = CallFrame::decode(frame)?;
        let (id, worker) = (frame.id, &self.setup.worker);
        let known = locked(&self.known).enter(id);
        if known != Known::Unknown {
            self.counters.duplicates.fetch_add(1, Relaxed);
            self.tell(id, known, reply);
            return Ok(());
        }
        if !self.reserve() {
            locked(&self.known).leave(id);
            self.counters.busy.fetch_add(1, Relaxed);
            self.sign(reply, |out| Busy { id, worker: worker.clone() }.encode(out));
            return Ok(());
        }
        // From here on every way out releases the slot and ends the call, or hands it on.
        self.counters.calls.fetch_add(1, Relaxed);
        let came = Instant::now();
        let mut origin = Origin { id, reply: reply.clone(), shape: None, came };
        let entry = match self.find(&frame, &mut origin) {
            Ok(entry) => entry,
            Err(failure) => {
                self.refuse(&origin, failure.kind, failure.message);
                self.release();
                return Ok(());
            }
        };
        self.acknowledge(id, reply);
        let call = Arrived {
            may_open: !own || frame.phase == Phase::RequestFilter,
            due: came + frame.remaining.min(MAX_REMAINING),
            ours_since: self.watch.received(),
            session: None,
            begun: None,
            frame,
            entry,
            origin,
        };
        if call.frame.claim || self.watch.has_noticed_since(call.ours_since) {
            self.claim(Held::Arrived(Box::new(call)));
        } else {
            self.proceed(call, ready);
        }
        Ok(())
    }

    /// The entry of a call, or why it cannot run here.
    fn find(&self, frame: &CallFrame, origin: &mut Origin) -> Result<Arc<Entry>, Failure> {
        let (name, phase) = (frame.entry.as_str(), frame.phase);
        let Some(entry) = self.setup.entries.get(name) else {
            let mut known: Vec<_> = self.setup.entries.keys().map(String::as_str).collect();
            known.sort_unstable();
            let why = format!("there is no entry {name:?} on this worker; it has {}", known.join(", "));
            return Err(Failure::new(FailureKind::UnknownEntry, why));
        };
        origin.shape = Some(shape_of(entry));
        if entry.shape(phase).is_none() {
            // Another worker of the group has this handler, or nobody would call. Passing could open a door.
            let why = format!("entry {name:?} has no {phase} handler on this worker");
            return Err(Failure::new(FailureKind::UnknownEntry, why));
        }
        Ok(entry.clone())
    }

    /// Goes on with a call that is ours to run: finds its session and its body. A session begins here and not
    /// earlier, since nobody would end one of a call that another worker has.
    pub(crate) fn proceed(self: &Arc<Self>, mut call: Arrived, ready: &mut Vec<Ready>) {
        if call.entry.keeps_sessions() {
            match self.session(&call) {
                Ok((session, is_new)) => {
                    call.session = Some(session);
                    call.begun = is_new.then_some(call.frame.session);
                }
                Err(failure) => {
                    self.refuse(&call.origin, failure.kind, failure.message);
                    return self.release();
                }
            }
        }
        match missing_body(&call.frame, &call.entry) {
            Some(which) => self.await_body(call, which),
            None => self.prepare(call, ready),
        }
    }

    /// The session of a call, and whether it begins with it.
    fn session(&self, call: &Arrived) -> Result<(Arc<SessionHandlers>, bool), Failure> {
        locked(&self.sessions).enter(call.frame.session, call.may_open, call.origin.came).map_err(|why| {
            match why {
                NoSession::Unknown => {
                    const WHY: &str = "the session is not open on this worker: it has expired";
                    Failure::new(FailureKind::WorkerDied, WHY)
                }
                NoSession::Full => {
                    Failure::new(FailureKind::Overloaded, "too many sessions are open on this worker")
                }
            }
        })
    }
}

/// The body that the handler was registered to find and that did not travel along.
fn missing_body(frame: &CallFrame, entry: &Entry) -> Option<Which> {
    let shape = entry.shape(frame.phase)?;
    match frame.phase {
        Phase::RequestFilter if shape.body && !matches!(frame.request_body, BodyPart::Bytes(_)) => {
            Some(Which::Request)
        }
        // Also in response_filter, where a body that an earlier handler has set can be read.
        Phase::ResponseFilter | Phase::ResponseBodyFilter
            if matches!(frame.response_body, BodyPart::Held { .. }) =>
        {
            Some(Which::Response)
        }
        _ => None,
    }
}
