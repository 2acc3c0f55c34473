//! One call in flight, as the call itself sees it: its slot in the table of correlation.rs, and what came in for it.

use super::correlation::Slots;
use super::orphans::Orphans;
use super::peer::Peer;
use super::slot::{Event, OpenCall};
use nylon_wire::subjects::reply_token;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One call that waits for its answers. Dropping it gives the slot back; what comes later finds nobody.
pub(super) struct Waiting {
    slots: Arc<Slots>,
    number: u32,
    generation: u32,
}

impl Waiting {
    /// For the use `generation` of the slot `number`, which is open and nobody else's.
    pub(super) fn new(slots: Arc<Slots>, number: u32, generation: u32) -> Waiting {
        Waiting { slots, number, generation }
    }

    /// The reply subject of one message of this call under an inbox (`_INBOX.abc.`).
    pub(super) fn reply_subject(&self, inbox: &str, message: u32) -> String {
        let mut subject = String::with_capacity(inbox.len() + 19);
        subject.push_str(inbox);
        reply_token(&mut subject, self.number, self.generation, message);
        subject
    }

    fn with<R>(&self, act: impl FnOnce(&mut OpenCall) -> R) -> R {
        let done = self.slots.with(self.number, self.generation, act);
        done.expect("a slot is open as long as its Waiting lives")
    }

    /// The next thing that came in.
    pub(super) async fn event(&self) -> Event {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// The same, for whoever is polled.
    pub(super) fn poll_event(&self, context: &mut Context<'_>) -> Poll<Event> {
        self.with(|call| match call.next() {
            Some(event) => Poll::Ready(event),
            None => {
                match &mut call.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        })
    }

    /// The call is sent (again), to this worker or to the group: from now on only who takes it anew has it.
    pub(super) fn sending(&self, worker: Option<&Arc<Peer>>) {
        self.with(|call| {
            (call.taken, call.pinned) = (None, false);
            (call.news, call.lost) = (false, false);
            call.sendings += 1;
            call.assign(worker.cloned(), false);
        });
    }

    /// The connection is there again, and with it the worker's answers.
    pub(super) fn resumed(&self) {
        self.with(|call| call.lost = false);
    }

    /// The worker that may run the call has it, whoever else said so.
    pub(super) fn granted(&self, worker: &Arc<Peer>, message: u32) {
        self.with(|call| {
            (call.taken, call.pinned) = (Some(message), true);
            call.assign(Some(worker.clone()), true);
        });
    }

    /// From now on a worker that takes the call wakes it.
    pub(super) fn watch(&self) {
        self.with(|call| call.watching = true);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.with(|call| call.taken.is_some())
    }

    /// Whether the call was sent more than once, so that a worker may have it of which nothing is known.
    pub(super) fn was_sent_again(&self) -> bool {
        self.with(|call| call.sendings > 1)
    }

    /// Workers that said they have the call while another one had it.
    pub(super) fn others(&self) -> Vec<Arc<Peer>> {
        self.with(|call| std::mem::take(&mut call.others))
    }

    /// Where calls are remembered that somebody may take when they are over.
    pub(super) fn orphans(&self) -> &Orphans {
        &self.slots.orphans
    }

    /// The worker that said it has the call.
    pub(super) fn taken_by(&self) -> Option<Arc<Peer>> {
        self.with(|call| call.taken.and(call.worker.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.slots.close(self.number, self.generation);
    }
}
