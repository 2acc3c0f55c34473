//! The clocks of one upstream connection, or of one request where a connection carries many.
//!
//! Whatever is awaited of a service (room for more of a request, a response head, the next bytes of a body, or the
//! end of a pooled connection's rest) sets the one moment by which it is due. The task that drives the connection
//! has the only timer: it sleeps for no longer than the shortest of the limits, so a moment set meanwhile is never
//! seen too late, and a request arms no timer of its own. What is late is cut off with its connection.

use super::balance::Address;
use super::body::Upload;
use super::error::ForwardError;
use nylon_config::plan::UpstreamLimits;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a connection's users and its driver share.
pub(super) struct Watch {
    due: Cell<Option<Instant>>,
    late: Cell<bool>,
    /// Whether the response head is here: from then on the response's body sets the pace.
    has_head: Cell<bool>,
    /// How far the request's body has come.
    pub(super) upload: RefCell<Upload>,
    address: Address,
}

impl Watch {
    pub(super) fn new(address: Address) -> Watch {
        let upload = RefCell::new(Upload::Sent);
        let (due, late, has_head) = Default::default();
        Watch { due, late, has_head, upload, address }
    }

    /// Where the connection leads.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The times that the service may take.
    pub(super) fn limits(&self) -> &UpstreamLimits {
        self.address.limits()
    }

    /// A request goes out, whose body is as far as `upload` says.
    pub(super) fn send(&self, upload: Upload) {
        self.has_head.set(false);
        self.upload.replace(upload);
        self.expect(self.limits().response_head_timeout);
    }

    /// More of the request's body is there (the service has to take it, or to answer if it was the last), or the
    /// client is waited for, by a clock of its own.
    pub(super) fn uploading(&self, is_there: bool) {
        match (self.has_head.get(), is_there) {
            (true, _) => {}
            (false, true) => self.expect(self.limits().response_head_timeout),
            (false, false) => self.relax(),
        }
    }

    /// The response head is here, or never will be.
    pub(super) fn answered(&self) {
        self.has_head.set(true);
        self.relax();
    }

    /// Something is due within `limit`, which is one of these times.
    pub(super) fn expect(&self, limit: Duration) {
        self.due.set(Some(Instant::now() + limit));
    }

    /// Something is due within `limit`, unless something is due already.
    pub(super) fn keep_expecting(&self, limit: Duration) {
        if self.due.get().is_none() {
            self.expect(limit);
        }
    }

    /// Nothing is due.
    pub(super) fn relax(&self) {
        self.due.set(None);
    }

    /// The error of a response head that was late.
    pub(super) fn response_timeout(&self) -> ForwardError {
        let millis = self.limits().response_head_timeout.as_millis();
        ForwardError::ResponseTimeout { address: self.address.to_string(), millis }
    }

    /// Whether the connection was cut off because something was late.
    pub(super) fn is_late(&self) -> bool {
        self.late.get()
    }

    /// Drives `connection` to its end, or until something is late: then there is no result.
    pub(super) async fn drive<F: Future>(&self, connection: F) -> Option<F::Output> {
        let limits = self.limits();
        let shortest = limits.response_head_timeout.min(limits.read_timeout).min(limits.idle_timeout);
        let mut connection = pin!(connection);
        let mut timer = pin!(sleep_until(Instant::now() + shortest));
        poll_fn(|cx| {
            if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                let next = now + shortest;
                match self.due.get() {
                    Some(due) if due <= now => {
                        self.late.set(true);
                        return Poll::Ready(None);
                    }
                    Some(due) => timer.as_mut().reset(due.min(next)),
                    None => timer.as_mut().reset(next),
                }
            }
            Poll::Pending
        })
        .await
    }
}
