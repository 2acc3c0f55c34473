//! One phase of one session, from the pipeline's side: lend the exchange, tell the library, and take it back when the
//! phase is over or its time is.
//!
//! The library is called on the data-plane thread. Most phases are over when that call returns, and then nothing waits
//! and nothing is allocated for waiting. It cannot be interrupted: what returns too late is late, whatever it decided.

use super::entry::Entry;
use super::session::{Awaited, Ended, Kept, NotOpened, Opened, Running, SessionState};
use super::stream::{NativeStream, Outlet};
use crate::plugin::{BodySource, Pending, PhaseCall, ResponseStream, Session};
use bytes::Bytes;
use nylon_abi::method;
use nylon_core::{Context as PhaseContext, Decision, Failure, FailureKind, Finished};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Runs one phase.
pub(super) fn run<'a>(entry: &Arc<Entry>, call: PhaseCall<'a>) -> Pending<'a> {
    let PhaseCall { exchange, call, policy, deadline, session, body, response_body, stream, recording } =
        call;
    let phase = call.phase;
    let new = if recording { PhaseContext::recording } else { PhaseContext::local };
    let context = new(exchange, call);
    // In a box: it is moved a few times.
    let running = Box::new(Running {
        context,
        ended: None,
        awaited: Awaited::default(),
        limit: body.limit(),
        on_demand: response_body.is_some(),
        waker: None,
    });
    let opened = match begin(entry, session, running, deadline) {
        Ok(opened) => opened,
        Err((failure, running)) => return Pending::Ready(running.context.finish(Err(failure))),
    };
    let over = opened.start(phase as u8, deadline, take_over).flatten();
    let onward = Onward { opened, stream, patience: policy.timeout };
    match over {
        Some(Over::Phase(over)) if over.ended.is_none() && Instant::now() > deadline => {
            Pending::Ready(onward.late(over))
        }
        Some(over) => Pending::Ready(onward.finish(over)),
        None => {
            let waiting = Waiting { opened, over: false };
            Pending::Later(Box::pin(waiting.result(
                deadline,
                Bodies { request: body, response: response_body },
                onward,
            )))
        }
    }
}

/// Lends the exchange to the session, opening one where there is none, or where the last one had to be closed.
fn begin(
    entry: &Arc<Entry>,
    session: &mut Session,
    mut running: Box<Running>,
    due: Instant,
) -> Result<Opened, (Failure, Box<Running>)> {
    let known = session.slot.as_ref().and_then(|slot| slot.downcast_ref::<Kept>());
    if let Some(&Kept(opened)) = known {
        match opened.lend(running) {
            Ok(()) => return Ok(opened),
            Err(back) => running = back,
        }
    }
    match Opened::new(entry, due) {
        Ok(opened) => {
            session.slot = Some(Box::new(Kept(opened)));
            // One that is closed already was caught by a shutdown.
            opened.lend(running).map(|()| opened).map_err(|back| (refused(entry, &NotOpened::Ended), back))
        }
        Err(why) => Err((refused(entry, &why), running)),
    }
}

fn refused(entry: &Entry, why: &NotOpened) -> Failure {
    match why {
        NotOpened::NoSuchEntry => {
            let why =
                format!("the library has no entry {:?}: register_session_stream returned false", entry.name);
            Failure::new(FailureKind::UnknownEntry, why)
        }
        NotOpened::TooMany => {
            Failure::new(FailureKind::Overloaded, "too many sessions of native plugins are open")
        }
        NotOpened::Ended => Failure::new(FailureKind::Unavailable, "the plugin is shut down"),
    }
}

/// A phase that is over, out of its session's hands.
enum Over {
    Phase(Box<Running>),
    /// Its handler goes on writing the response, and reads from the copy that is the session's.
    Stream(Box<Finished>, Arc<Outlet>, Awaited),
}

/// Takes the exchange back from a phase that is over.
fn take_over(state: &mut SessionState) -> Option<Over> {
    if !state.running.as_ref()?.is_over() {
        return None;
    }
    let mut running = state.running.take()?;
    match running.ended.take() {
        Some(Ended::Begun(finished, outlet)) => {
            // It is gone already where the handler has written all of the body. Under the same lock, so that what the
            // handler may read is there at every moment.
            if let Some(writer) = &mut state.writer {
                writer.context = Some(running.context);
            }
            Some(Over::Stream(finished, outlet, running.awaited))
        }
        ended => {
            running.ended = ended;
            Some(Over::Phase(running))
        }
    }
}

/// Where the pipeline wants a body that a handler goes on writing, and how long it waits for more of it.
struct Onward<'a> {
    opened: Opened,
    stream: &'a mut Option<Box<dyn ResponseStream>>,
    patience: Duration,
}

impl Onward<'_> {
    /// The result of a phase that is over.
    fn finish(self, over: Over) -> Finished {
        match over {
            Over::Stream(finished, outlet, awaited) => {
                self.opened.answer_nothing(awaited);
                *self.stream = Some(Box::new(NativeStream::new(self.opened, outlet, self.patience)));
                *finished
            }
            Over::Phase(running) => {
                let Running { context, ended, awaited, .. } = *running;
                self.opened.answer_nothing(awaited);
                match ended {
                    Some(Ended::Failed(failure)) => context.finish(Err(failure)),
                    // A stream is taken over as one.
                    Some(Ended::Begun(..)) | None => context.finish(Ok(())),
                }
            }
        }
    }

    /// The result of a phase that took too long. What still comes finds the session closed.
    fn late(self, running: Box<Running>) -> Finished {
        self.opened.answer_nothing(running.awaited);
        self.opened.close();
        let why = "no result within the phase's timeout_ms";
        running.context.finish(Err(Failure::new(FailureKind::TimedOut, why)))
    }
}

/// A phase that goes on after its start has returned. Dropping it gives it up.
struct Waiting {
    opened: Opened,
    over: bool,
}

enum Event {
    Over(Over),
    Wanted(Body),
    TimedOut,
}

#[derive(Clone, Copy)]
enum Body {
    Request,
    Response,
}

/// The bodies that a handler may ask for.
struct Bodies<'a> {
    request: &'a mut dyn BodySource,
    response: Option<&'a mut dyn BodySource>,
}

const OPEN: &str = "a session stays open, and its phase where it is, until whoever waits for it takes it";

impl Waiting {
    /// Waits for the end, at most until the deadline; time spent on bodies moves that back.
    async fn result(mut self, mut deadline: Instant, mut bodies: Bodies<'_>, onward: Onward<'_>) -> Finished {
        let mut sleep = pin!(tokio::time::sleep_until(deadline.into()));
        loop {
            let event = poll_fn(|cx| match self.poll(cx) {
                Poll::Pending => sleep.as_mut().poll(cx).map(|()| Event::TimedOut),
                ready => ready,
            });
            match event.await {
                Event::Over(over) => {
                    self.over = true;
                    return onward.finish(over);
                }
                Event::TimedOut => {
                    let running = self.opened.with(|state| state.running.take()).flatten();
                    self.over = true;
                    return onward.late(running.expect(OPEN));
                }
                Event::Wanted(which) => {
                    let begun = Instant::now();
                    let source = match (which, &mut bodies.response) {
                        (Body::Response, Some(source)) => &mut **source,
                        _ => &mut *bodies.request,
                    };
                    if let Some(over) = self.read(which, source).await {
                        self.over = true;
                        return onward.finish(over);
                    }
                    deadline += begun.elapsed();
                    sleep.as_mut().reset(deadline.into());
                }
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let look = |state: &mut SessionState| {
            if let Some(over) = take_over(state) {
                return Poll::Ready(Event::Over(over));
            }
            let running = state.running.as_mut().expect(OPEN);
            if running.awaited.request > 0 {
                return Poll::Ready(Event::Wanted(Body::Request));
            }
            if running.awaited.response > 0 {
                return Poll::Ready(Event::Wanted(Body::Response));
            }
            match &mut running.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        };
        self.opened.with(look).expect(OPEN)
    }

    /// Reads a body and answers those who want it. The phase's end is there where it came meanwhile; if the exchange goes
    /// on, the request's body is read to its end all the same, since a part of it has left its connection already.
    async fn read(&self, which: Body, source: &mut dyn BodySource) -> Option<Over> {
        let mut reading = source.read();
        let mut early: Option<Over> = None;
        let read = poll_fn(|cx| {
            if early.is_none() {
                early = self.opened.with(take_over).flatten();
            }
            match (&early, which) {
                (None, _) => self.listen(cx),
                // The response's body keeps what was read of it.
                (Some(_), Body::Response) => return Poll::Ready(None),
                (Some(over), Body::Request) if ends(over) => return Poll::Ready(None),
                (Some(_), Body::Request) => {}
            }
            reading.as_mut().poll(cx).map(Some)
        });
        let read = read.await;
        if early.is_some() {
            return early;
        }
        self.supply(which, read?);
        None
    }

    /// Wants to be woken when the phase is over.
    fn listen(&self, cx: &Context<'_>) {
        self.opened.with(|state| {
            if let Some(running) = &mut state.running {
                running.waker = Some(cx.waker().clone());
            }
        });
    }

    fn supply(&self, which: Body, read: Result<Bytes, Failure>) {
        let readers = self.opened.with(|state| {
            let running = state.running.as_mut()?;
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(failure) => {
                    // Those who wait are answered when the phase is taken back.
                    running.fail(failure);
                    return None;
                }
            };
            Some(match which {
                Body::Request => {
                    running.context.supply_request_body(bytes.clone());
                    (method::READ_REQUEST_FULL_BODY, std::mem::take(&mut running.awaited.request), bytes)
                }
                Body::Response => {
                    running.context.supply_response_body(bytes.clone());
                    (method::READ_RESPONSE_FULL_BODY, std::mem::take(&mut running.awaited.response), bytes)
                }
            })
        });
        if let Some((number, count, bytes)) = readers.flatten() {
            self.opened.answer(number, count, &bytes);
        }
    }
}

fn ends(over: &Over) -> bool {
    match over {
        Over::Phase(running) => running.ended.is_none() && running.context.decision() == Some(Decision::End),
        Over::Stream(..) => false,
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // The client went away, and nobody wants the result. Reads are answered, and the session is closed.
        let running = self.opened.with(|state| state.running.take()).flatten();
        if let Some(running) = running {
            self.opened.answer_nothing(running.awaited);
        }
        self.opened.close();
    }
}
