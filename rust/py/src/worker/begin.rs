//! From a call that may begin to a handler that runs: on the loop, as a step of it or at once, or on a thread.
//!
//! The last look before a handler begins is at the clock: a call that has waited through a stall is claimed first.

use super::call::RemoteCall;
use super::clock::Moment;
use super::receive::Arrived;
use super::report;
use super::shared::{Shared, locked};
use super::waiting::Held;
use crate::context::{Lease, Manner};
use crate::dispatch::Invocation;
use nylon_core::{Failure, FailureKind};
use nylon_wire::SessionId;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Where a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A `def` handler on a thread of the pool.
    Pool,
    /// A `def` handler on the loop's thread.
    Loop,
    /// An `async def` handler.
    Step,
}

/// A call whose handler can begin.
pub(crate) struct Ready {
    pub(crate) invocation: Invocation,
    pub(crate) call: Arc<Lease<RemoteCall>>,
    place: Place,
    /// The session that began with it.
    pub(crate) begun: Option<SessionId>,
    /// Since when it is surely ours to run.
    pub(crate) ours_since: Moment,
}

impl Shared {
    /// Lends the handler its context and finds it a place to run.
    pub(crate) fn prepare(self: &Arc<Self>, call: Arrived, ready: &mut Vec<Ready>) {
        let Arrived { frame, entry, session, begun, origin, due, ours_since, .. } = call;
        let place = match entry.shape(frame.phase) {
            Some(shape) if shape.is_async => Place::Step,
            Some(shape) if shape.inline.unwrap_or(self.setup.inline) => Place::Loop,
            _ => Place::Pool,
        };
        let context = match frame.into_context() {
            Ok(context) => context,
            Err(error) => {
                self.counters.malformed.fetch_add(1, Relaxed);
                let why = format!("the worker cannot read the call: {error}");
                self.refuse(&origin, FailureKind::Protocol, why);
                return self.release();
            }
        };
        let manner = match place {
            Place::Pool => Manner::Block,
            Place::Loop => Manner::Never,
            Place::Step => Manner::Await,
        };
        let owner = RemoteCall::new(self.clone(), origin, due, manner);
        let call = Lease::new(context, entry.labels.clone(), due, owner);
        if place == Place::Pool {
            self.remember(call.clone());
        }
        let invocation = Invocation { entry, session, lease: call.clone() };
        self.begin(Ready { invocation, call, place, begun, ours_since }, ready);
    }

    /// Sends a call to the place where its handler runs.
    pub(crate) fn begin(self: &Arc<Self>, call: Ready, ready: &mut Vec<Ready>) {
        match call.place {
            Place::Pool => self.pool.submit(call),
            Place::Loop | Place::Step => ready.push(call),
        }
    }

    /// Whether a call may run now. One that has waited through a stall is claimed instead.
    pub(crate) fn may_run(self: &Arc<Self>, call: Ready) -> Option<Ready> {
        if !self.watch.has_stalled_since(call.ours_since) {
            return Some(call);
        }
        self.claim(Held::Ready(call));
        None
    }

    /// Runs the handlers that run on the loop.
    pub(crate) fn run(self: &Arc<Self>, py: Python<'_>, ready: Vec<Ready>) {
        for call in ready {
            let Some(Ready { invocation, call, place, .. }) = self.may_run(call) else { continue };
            let run = || match place {
                Place::Step => self.step(py, &invocation),
                Place::Loop | Place::Pool => {
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
                    call.give_up(Failure::new(FailureKind::Raised, "a panic ended the handler"));
                }
            }
            if !call.is_closed() {
                self.remember(call);
            }
            self.flush_much(py);
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
