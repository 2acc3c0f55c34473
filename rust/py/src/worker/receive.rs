//! From a message's bytes to a handler that runs, on the loop's thread.
//!
//! A batch is handled in two steps: first every message is looked at, acknowledged or refused, and what goes to
//! the pool is handed over; the acknowledgements are written, and then the handlers run that run here. So with
//! asyncio's own loop a gateway knows who has its call before any handler of the batch can block or end the
//! process; uvloop writes at the end of its turn, after the handlers' first steps.

use super::bodies::{Received, STALL};
use super::call::{Origin, RemoteCall};
use super::pool::Job;
use super::report;
use super::sessions::NoSession;
use super::shared::{Shared, Unsent, locked};
use crate::context::{Lease, wake_readers};
use crate::dispatch::Invocation;
use crate::registry::{Entry, SessionHandlers};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Phase};
use nylon_wire::{
    Ack, BodyFrame, BodyPart, Busy, CallFrame, CallId, Close, EntryShape, Envelope, Kind, Which, WireError,
};
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The longest that a call may say it has: a clock must be able to hold it.
const MAX_REMAINING: Duration = Duration::from_secs(24 * 3600);
/// The longest wait for a body that a handler was registered to find.
const MAX_BODY_WAIT: Duration = Duration::from_secs(600);

/// A handler that runs on the loop.
pub(crate) struct Ready {
    invocation: Invocation,
    call: Arc<Lease<RemoteCall>>,
    is_async: bool,
}

/// A call whose handler waits for a body that did not travel along.
pub(crate) struct Parked {
    frame: CallFrame,
    entry: Arc<Entry>,
    session: Option<Arc<SessionHandlers>>,
    which: Which,
    pub(crate) origin: Origin,
    pub(crate) due: Instant,
}

/// What an entry wants, as the wire says it.
pub(crate) fn shape_of(entry: &Entry) -> EntryShape {
    EntryShape {
        phases: entry.phases(),
        request_body: entry.shape(Phase::RequestFilter).is_some_and(|shape| shape.body),
        stream: entry.shape(Phase::ResponseBodyFilter).is_some_and(|shape| shape.stream),
        session: entry.keeps_sessions(),
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
            Ok(Envelope { kind: Kind::Call, .. }) => self.receive_call(py, own, &reply, frame, ready),
            Ok(Envelope { kind: Kind::Body, .. }) if own => self.receive_body(py, frame, ready),
            Ok(Envelope { kind: Kind::Credit, .. }) if own => self.receive_credit(frame),
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
        let id = id.unwrap_or(CallId([0; 16]));
        let origin = Origin { id, reply, shape: None, came: Instant::now() };
        self.refuse(&origin, FailureKind::Protocol, format!("the worker cannot read the call: {error}"));
    }

    fn receive_call(
        self: &Arc<Self>,
        py: Python<'_>,
        own: bool,
        reply: &Bytes,
        frame: &Bytes,
        ready: &mut Vec<Ready>,
    ) -> Result<(), WireError> {
        let frame = CallFrame::decode(frame)?;
        let came = Instant::now();
        let (id, worker) = (frame.id, &self.setup.worker);
        let mut origin = Origin { id, reply: reply.clone(), shape: None, came };
        if self.has(id) {
            self.counters.duplicates.fetch_add(1, Relaxed);
            self.sign(&origin, |out| Ack { id, worker: worker.clone() }.encode(out));
            return Ok(());
        }
        if !self.reserve() {
            self.counters.busy.fetch_add(1, Relaxed);
            self.sign(&origin, |out| Busy { id, worker: worker.clone() }.encode(out));
            return Ok(());
        }
        // From here on every way out releases the slot, or hands it to the call.
        self.counters.calls.fetch_add(1, Relaxed);
        let (entry, session) = match self.find(&frame, own, &mut origin) {
            Ok(found) => found,
            Err(failure) => {
                self.refuse(&origin, failure.kind, failure.message);
                self.release();
                return Ok(());
            }
        };
        self.sign(&origin, |out| Ack { id, worker: worker.clone() }.encode(out));
        let due = came + frame.remaining.min(MAX_REMAINING);
        match missing_body(&frame, &entry) {
            Some(which) => self.park(Parked { frame, entry, session, which, origin, due }),
            None => {
                self.prepare(py, Parked { frame, entry, session, which: Which::Request, origin, due }, ready)
            }
        }
        Ok(())
    }

    /// The entry and the session of a call, or why it cannot run here.
    fn find(
        &self,
        frame: &CallFrame,
        own: bool,
        origin: &mut Origin,
    ) -> Result<(Arc<Entry>, Option<Arc<SessionHandlers>>), Failure> {
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
        if !entry.keeps_sessions() {
            return Ok((entry.clone(), None));
        }
        let may_open = !own || phase == Phase::RequestFilter;
        match locked(&self.sessions).enter(frame.session, may_open, origin.came) {
            Ok(session) => Ok((entry.clone(), Some(session))),
            Err(NoSession::Unknown) => {
                const WHY: &str = "the session is not open on this worker: it has expired";
                Err(Failure::new(FailureKind::WorkerDied, WHY))
            }
            Err(NoSession::Full) => {
                Err(Failure::new(FailureKind::Overloaded, "too many sessions are open on this worker"))
            }
        }
    }

    fn sign(&self, origin: &Origin, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) {
        if !origin.reply.is_empty() {
            // A sign that is dropped because too much waits is counted by the outbox, and asked for again.
            let _dropped = self.publish(&origin.reply, |out| encode(out).map_err(Unsent::Wire));
        }
    }

    fn park(&self, mut call: Parked) {
        if !self.ask_body(&call.origin, call.which) {
            const WHY: &str = "the gateway cannot be asked for the body: too much waits for the broker";
            self.refuse(&call.origin, FailureKind::Overloaded, WHY);
            self.release();
            return;
        }
        call.due = Instant::now() + MAX_BODY_WAIT;
        locked(&self.parked).insert(call.origin.id, call);
    }

    /// Lends the handler its context and finds it a place to run.
    fn prepare(self: &Arc<Self>, py: Python<'_>, call: Parked, ready: &mut Vec<Ready>) {
        let Parked { frame, entry, session, origin, due, .. } = call;
        let Some(shape) = entry.shape(frame.phase) else { return self.release() };
        let pooled = !shape.is_async && !shape.inline.unwrap_or(self.setup.inline);
        let context = match frame.into_context() {
            Ok(context) => context,
            Err(error) => {
                self.malformed(py, Some(origin.id), origin.reply, &error);
                return self.release();
            }
        };
        let owner = RemoteCall::new(self.clone(), origin, due, pooled);
        let call = Lease::new(context, entry.labels.clone(), due, owner);
        let invocation = Invocation { entry, session, lease: call.clone() };
        if pooled {
            self.remember(call.clone());
            self.pool.submit(Job { invocation, call });
        } else {
            ready.push(Ready { invocation, call, is_async: shape.is_async });
        }
    }

    fn receive_body(
        self: &Arc<Self>,
        py: Python<'_>,
        frame: &Bytes,
        ready: &mut Vec<Ready>,
    ) -> Result<(), WireError> {
        let frame = BodyFrame::decode(frame)?;
        let (id, which) = (frame.id, frame.which);
        let left = frame.remaining.min(MAX_REMAINING);
        let now = Instant::now();
        let parked = locked(&self.parked).remove(&id);
        if let Some(mut call) = parked {
            call.due = now + left;
            match (self.take_part(&call.origin, frame), which) {
                (Received::Part, _) => {
                    call.due = now + left.max(STALL);
                    locked(&self.parked).insert(id, call);
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
            self.prepare(py, call, ready);
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
        // Else the call is over: its handler did not wait for the body.
        Ok(())
    }

    /// Runs the handlers that run on the loop.
    pub(crate) fn run(&self, py: Python<'_>, ready: Vec<Ready>) {
        for Ready { invocation, call, is_async } in ready {
            let run = || match is_async {
                true => self.step(py, &invocation),
                false => {
                    invocation.run(py);
                    Ok(())
                }
            };
            // One call's accident is not the others'.
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => crate::dispatch::fail(py, &*call, error),
                Err(_) => {
                    report::failure(py, "a panic ended a handler's call");
                    RemoteCall::give_up(
                        &call,
                        Failure::new(FailureKind::Raised, "a panic ended the handler"),
                    );
                }
            }
            if !call.is_closed() {
                self.remember(call);
            }
        }
    }

    fn step(&self, py: Python<'_>, invocation: &Invocation) -> PyResult<()> {
        let Some((handler, context)) = invocation.begin(py) else { return Ok(()) };
        let start = locked(&self.stepper).as_ref().map(|start| start.clone_ref(py));
        match start {
            Some(start) => start.call1(py, (handler, context)).map(drop),
            None => Err(pyo3::exceptions::PyRuntimeError::new_err("the worker is closed")),
        }
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
