//! One call of a handler, from the pipeline's side: hand it over, wait for the first of result, wish for the
//! body, and deadline, and take the exchange back in each case.

use super::event_loop::{EventLoop, LoopJob};
use super::pool::Pool;
use super::residence;
use super::stream::{LocalOutlet, LocalStream};
use crate::context::{Lease, Manner, Outlet, Owner};
use crate::dispatch::Invocation;
use nylon_core::{Failure, FailureKind, Finished, Outcome};
use nylon_gateway::plugin::{BodySource, ResponseStream};
use pyo3::prelude::*;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Where a handler runs.
pub(super) enum Way<'a> {
    Inline,
    Pool(&'a Arc<Pool>),
    Loop(&'a Arc<EventLoop>),
}

/// The pipeline's task that waits for a handler.
pub(super) struct Waiting {
    slot: Mutex<Slot>,
    manner: Manner,
    /// Where the handler runs, if that is a loop.
    event_loop: Option<Arc<EventLoop>>,
    late_after: Option<Instant>,
}

#[derive(Default)]
struct Slot {
    finished: Option<Finished>,
    /// What the handler goes on writing to.
    outlet: Option<Arc<LocalOutlet>>,
    /// Nobody waits any more.
    abandoned: bool,
    /// The handler's place on the loop is given back.
    released: bool,
    body_wanted: bool,
    waker: Option<Waker>,
}

enum Event {
    Finished(Finished),
    BodyWanted,
    TimedOut,
}

impl Waiting {
    /// For a handler that runs here and now: late is what returns after `deadline`.
    pub(super) fn inline(deadline: Instant) -> Waiting {
        Waiting { late_after: Some(deadline), ..Waiting::elsewhere(Manner::Never, None) }
    }

    /// For a handler that runs in the pool.
    pub(super) fn pooled() -> Waiting {
        Waiting::elsewhere(Manner::Block, None)
    }

    /// For a handler that runs on a loop.
    pub(super) fn on_loop(event_loop: &Arc<EventLoop>) -> Waiting {
        Waiting::elsewhere(Manner::Await, Some(event_loop.clone()))
    }

    fn elsewhere(manner: Manner, event_loop: Option<Arc<EventLoop>>) -> Waiting {
        Waiting { slot: Mutex::default(), manner, event_loop, late_after: None }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Finished> {
        self.slot().finished.take()
    }

    /// Gives the handler's place on the loop back, once.
    fn release(&self) {
        let released = std::mem::replace(&mut self.slot().released, true);
        if let (false, Some(event_loop)) = (released, &self.event_loop) {
            event_loop.release();
        }
    }

    /// Nobody waits any more, nor will anybody read what the handler writes. True if it has begun to.
    fn abandon(&self) -> bool {
        let outlet = {
            let mut slot = self.slot();
            slot.abandoned = true;
            slot.outlet.take()
        };
        if let Some(outlet) = &outlet {
            outlet.close();
        }
        outlet.is_some()
    }

    fn take_outlet(&self) -> Option<Arc<LocalOutlet>> {
        self.slot().outlet.take()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut slot = self.slot();
        if let Some(finished) = slot.finished.take() {
            return Poll::Ready(Event::Finished(finished));
        }
        if std::mem::take(&mut slot.body_wanted) {
            return Poll::Ready(Event::BodyWanted);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn tell(&self, what: impl FnOnce(&mut Slot)) {
        let waker = {
            let mut slot = self.slot();
            what(&mut slot);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Owner for Waiting {
    fn finished(&self, finished: Finished) {
        self.tell(|slot| slot.finished = Some(finished));
    }

    fn body_wanted(&self) -> Result<(), &'static str> {
        if self.manner != Manner::Await {
            return Err("the request body cannot be awaited here: register the handler with body=True");
        }
        self.tell(|slot| slot.body_wanted = true);
        Ok(())
    }

    fn stream_begun(&self, finished: Finished) -> (Arc<dyn Outlet>, Manner) {
        let outlet = LocalOutlet::new(self.event_loop.clone());
        self.tell(|slot| {
            if slot.abandoned {
                outlet.close();
            }
            (slot.finished, slot.outlet) = (Some(finished), Some(outlet.clone()));
        });
        (outlet, self.manner)
    }

    fn stream_over(&self) {
        self.release();
    }

    fn is_late(&self) -> bool {
        self.late_after.is_some_and(|deadline| Instant::now() > deadline)
    }
}

/// Where the pipeline wants a body that a handler goes on writing, and how long it waits for more of it.
pub(super) struct Onward<'a> {
    pub(super) stream: &'a mut Option<Box<dyn ResponseStream>>,
    pub(super) patience: Duration,
}

impl Onward<'_> {
    /// Leaves the stream where the handler has begun one. True if so.
    fn leave(&mut self, lease: &Arc<Lease<Waiting>>) -> bool {
        let Some(outlet) = lease.owner.take_outlet() else { return false };
        *self.stream = Some(Box::new(LocalStream::new(lease.clone(), outlet, self.patience)));
        true
    }
}

/// Runs an inline handler on this data-plane thread.
pub(super) fn run_inline(
    invocation: Invocation,
    lease: &Arc<Lease<Waiting>>,
    mut onward: Onward<'_>,
) -> Finished {
    Python::attach(|py| residence::watched(py, &invocation.lease.clone(), || invocation.run(py)));
    onward.leave(lease);
    lease
        .owner
        .take()
        .or_else(|| lease.close(Err(lost())))
        .expect("a lease ends by its owner or by its closing")
}

fn lost() -> Failure {
    Failure::new(FailureKind::Raised, "the handler ended without a result: this is a defect of Nylon")
}

/// A call that somebody else runs. Dropping it gives the call up.
pub(super) struct Given {
    lease: Arc<Lease<Waiting>>,
    event_loop: Option<Arc<EventLoop>>,
    over: bool,
}

impl Given {
    /// Queues the call. An error is the result where there is no room, or nobody to run it.
    pub(super) fn hand_over(
        way: Way<'_>,
        invocation: Invocation,
        lease: Arc<Lease<Waiting>>,
    ) -> Result<Given, Finished> {
        let (queued, event_loop) = match way {
            Way::Pool(pool) => (pool.push(invocation), None),
            Way::Loop(event_loop) => (event_loop.push_call(invocation), Some(event_loop.clone())),
            Way::Inline => (Err(lost()), None),
        };
        match queued {
            Ok(()) => Ok(Given { lease, event_loop, over: false }),
            Err(failure) => Err(lease.close(Err(failure)).expect("a refused call never reaches its handler")),
        }
    }

    /// Waits for the result, at most until the deadline; time spent on the client's body moves that back.
    pub(super) async fn result(
        mut self,
        mut deadline: Instant,
        body: &mut dyn BodySource,
        mut onward: Onward<'_>,
    ) -> Finished {
        let mut sleep = pin!(tokio::time::sleep_until(deadline.into()));
        loop {
            let owner = &self.lease.owner;
            let event = poll_fn(|cx| match owner.poll(cx) {
                Poll::Pending => sleep.as_mut().poll(cx).map(|()| Event::TimedOut),
                ready => ready,
            });
            match event.await {
                Event::Finished(finished) => return self.done(finished, &mut onward),
                Event::TimedOut => {
                    let failure =
                        Failure::new(FailureKind::TimedOut, "no result within the phase's timeout_ms");
                    let finished = match self.lease.close(Err(failure)) {
                        Some(finished) => {
                            self.cancel();
                            finished
                        }
                        // The handler decided in this very moment: its result is on its way.
                        None => self.finished().await,
                    };
                    return self.done(finished, &mut onward);
                }
                Event::BodyWanted => {
                    let begun = Instant::now();
                    if let Some(finished) = self.read(body).await {
                        return self.done(finished, &mut onward);
                    }
                    deadline += begun.elapsed();
                    sleep.as_mut().reset(deadline.into());
                }
            }
        }
    }

    /// Reads the body for the handler. A result is there where the handler ended meanwhile; if the exchange goes
    /// on, the body is read to its end all the same, since a part of it has left the connection already.
    async fn read(&self, body: &mut dyn BodySource) -> Option<Finished> {
        let mut reading = body.read();
        let mut early = None;
        let owner = &self.lease.owner;
        let read = poll_fn(|cx| {
            if early.is_none()
                && let Poll::Ready(Event::Finished(finished)) = owner.poll(cx)
            {
                let ends = matches!(finished.outcome, Outcome::End);
                early = Some(finished);
                if ends {
                    return Poll::Ready(None);
                }
            }
            reading.as_mut().poll(cx).map(Some)
        });
        if let Some(result) = read.await
            && early.is_none()
        {
            self.lease.supply_body(result);
            if let Some(event_loop) = &self.event_loop {
                event_loop.push(LoopJob::WakeReaders(self.lease.clone()));
            }
        }
        early
    }

    async fn finished(&self) -> Finished {
        poll_fn(|cx| {
            loop {
                match self.lease.owner.poll(cx) {
                    Poll::Ready(Event::Finished(finished)) => return Poll::Ready(finished),
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// The result is here. A handler that goes on writing keeps its place on the loop until it ends.
    fn done(&mut self, finished: Finished, onward: &mut Onward<'_>) -> Finished {
        self.over = true;
        if !onward.leave(&self.lease) {
            self.lease.owner.release();
        }
        finished
    }

    fn cancel(&self) {
        if let Some(event_loop) = &self.event_loop {
            event_loop.push(LoopJob::Cancel(self.lease.clone()));
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // The client went away. The context closes under the handler's hands, and nobody wants its result.
        let failure = Failure::new(FailureKind::Cancelled, "the client went away while the handler ran");
        let begun = self.lease.owner.abandon();
        drop(self.lease.close(Err(failure)));
        if !begun {
            self.cancel();
            self.lease.owner.release();
        }
    }
}
