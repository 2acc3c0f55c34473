//! One call of a gateway, as the owner of the context that its handler is lent.

use super::shared::Shared;
use crate::context::{Lease, Manner, Outlet, Owner};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Finished};
use nylon_wire::{CallId, EntryShape, Which};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long past its deadline a handler may still answer: the gateway's clock started earlier than ours.
const GRACE: Duration = Duration::from_millis(50);
/// The longest wait for a body: the gateway's own limits end it sooner, unless the gateway is gone.
const MAX_BODY_WAIT: Duration = Duration::from_secs(600);

/// As good as no deadline.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// What is needed to answer.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The call.
    pub(crate) id: CallId,
    /// Where its answers go.
    pub(crate) reply: Bytes,
    /// What its entry's handlers want, told with the answer.
    pub(crate) shape: Option<EntryShape>,
    /// When it came.
    pub(crate) came: Instant,
}

/// A call whose handler has a context.
pub(crate) struct RemoteCall {
    shared: Arc<Shared>,
    pub(crate) origin: Origin,
    due: Mutex<Instant>,
    /// In the pool (it may block there) its slot is free when the thread is, not when the answer is sent.
    manner: Manner,
    has_slot: AtomicBool,
}

impl RemoteCall {
    /// The call takes over the slot that was reserved for it.
    pub(crate) fn new(shared: Arc<Shared>, origin: Origin, due: Instant, manner: Manner) -> RemoteCall {
        RemoteCall { shared, origin, due: Mutex::new(due), manner, has_slot: AtomicBool::new(true) }
    }

    /// The worker.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn due(&self) -> Instant {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts its time anew: a wait for the client did not count.
    pub(crate) fn put_off(&self, due: Instant) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    /// Whether its time is over, so that it need not begin.
    pub(crate) fn is_overdue(&self) -> bool {
        Instant::now() >= self.due()
    }

    /// Whether its handler should be given up.
    pub(crate) fn has_run_out(&self, now: Instant) -> bool {
        now >= self.due() + GRACE
    }

    fn release(&self) {
        if self.has_slot.swap(false, SeqCst) {
            self.shared.release();
        }
    }

    /// The pool's thread is free again. A call that did not begin is answered here.
    pub(crate) fn left_thread(&self, lease: &Lease<RemoteCall>) {
        let failure = match self.is_overdue() {
            true => {
                (FailureKind::TimedOut, "the call waited for a free handler thread until its time was over")
            }
            false => (FailureKind::Raised, "a panic ended the handler"),
        };
        lease.give_up(Failure::new(failure.0, failure.1));
        self.release();
    }

    /// Ends a call that did not begin and is not to be answered.
    pub(crate) fn abandon(lease: &Lease<RemoteCall>) {
        let unused = lease.close(Err(Failure::new(FailureKind::Cancelled, "another worker has the call")));
        drop(unused);
        lease.owner.shared.forget(lease.owner.origin.id);
        lease.owner.release();
    }

    /// The handler is over.
    fn left(&self) {
        if self.manner != Manner::Block {
            self.release();
        }
    }
}

impl Owner for RemoteCall {
    fn finished(&self, finished: Finished) {
        self.shared.forget(self.origin.id);
        self.shared.answer(self.origin.clone(), finished);
        self.left();
    }

    fn stream_begun(&self, finished: Finished) -> (Arc<dyn Outlet>, Manner) {
        // From here on the gateway's clocks count, and it says when nobody reads on.
        self.put_off(Instant::now() + FOREVER);
        (self.shared.begin_stream(&self.origin, finished), self.manner)
    }

    fn stream_over(&self) {
        self.shared.forget(self.origin.id);
        self.shared.stream_over(self.origin.id);
        self.left();
    }

    fn is_late(&self) -> bool {
        self.has_run_out(Instant::now())
    }

    fn body_wanted(&self) -> Result<(), &'static str> {
        self.put_off(Instant::now() + MAX_BODY_WAIT);
        match self.shared.ask_body(&self.origin, Which::Request) {
            true => Ok(()),
            false => Err("the gateway cannot be asked for it: too much waits for the broker"),
        }
    }
}
