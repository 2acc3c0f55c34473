//! One call: to which process it goes, what is exchanged with it, and where it goes if that process dies.

use super::ProcessEntry;
use super::child::{Child, OpenCall, Refused};
use super::inbox::Event;
use super::outbox::Unsent;
use super::session::ProcessSession;
use super::socket::{Frame, framed};
use super::stream::ProcessStream;
use crate::plugin::bodies::{Bodies, request_body, response_body};
use crate::plugin::reply::{apply, finished};
use crate::plugin::{BodySource, Pending, PhaseCall, ResponseStream, Session};
use bytes::Bytes;
use nylon_config::plan::PhasePolicy;
use nylon_core::{Call, Exchange, Failure, FailureKind, Outcome};
use nylon_wire::limits::{INLINE_BODY, MAX_FRAME};
use nylon_wire::{
    CallId, CallMeta, ChunkFrame, CreditFrame, Kind, ReadFrame, Reply, SessionId, Which, WireError,
    encode_call,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;
use tokio::time::timeout_at;

/// Starts a call.
pub(super) fn run<'a>(entry: &'a ProcessEntry, call: PhaseCall<'a>) -> Pending<'a> {
    let PhaseCall { exchange, call, policy, deadline, session, body, response_body, stream, recording: _ } =
        call;
    if !entry.traits.phases.contains(call.phase) {
        return Pending::Ready(finished(exchange, Outcome::Next, None));
    }
    let session = process_session(entry, session);
    Pending::Later(Box::pin(async move {
        let counted = InFlight::new(&entry.shared.in_flight);
        let bodies = Bodies::new(body.limit() as u64);
        let id = CallId(entry.shared.new_id());
        let mut running = Running {
            entry,
            exchange,
            call,
            policy,
            deadline,
            id,
            body,
            response_body,
            bodies,
            counted: Some(counted),
        };
        let result = running.result(session, stream).await;
        let Running { exchange, call, .. } = running;
        match result {
            Ok(reply) => apply(exchange, call.phase, reply),
            Err(failure) => finished(exchange, Outcome::Failed(failure), None),
        }
    }))
}

fn process_session<'a>(entry: &ProcessEntry, session: &'a mut Session) -> &'a mut ProcessSession {
    let slot = &mut session.slot;
    if !slot.as_ref().is_some_and(|kept| kept.is::<ProcessSession>()) {
        *slot = Some(Box::new(ProcessSession::new(SessionId(entry.shared.new_id()))));
    }
    slot.as_mut()
        .and_then(|kept| kept.downcast_mut())
        .expect("the slot holds a ProcessSession: put there above")
}

/// Counts a call in flight, also one that is given up.
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> InFlight {
        count.fetch_add(1, Relaxed);
        InFlight(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A call that is under way.
struct Running<'a> {
    entry: &'a ProcessEntry,
    exchange: Box<Exchange>,
    call: Call,
    policy: &'a PhasePolicy,
    /// When the result is due; the wait for a client's body moves it back.
    deadline: Instant,
    id: CallId,
    body: &'a mut dyn BodySource,
    response_body: Option<&'a mut dyn BodySource>,
    bodies: Bodies,
    counted: Option<InFlight>,
}

/// What an attempt came to.
enum Heard {
    Reply(Reply),
    /// The process is gone, with the call.
    Gone,
    /// It was gone before it could take the call.
    Missed,
}

impl Running<'_> {
    /// The reply, after as many attempts as the policy allows.
    async fn result(
        &mut self,
        session: &mut ProcessSession,
        stream: &mut Option<Box<dyn ResponseStream>>,
    ) -> Result<Reply, Failure> {
        // A session that has begun cannot move: its closures are where it began.
        let settled = session.home.is_some();
        let mut retries = 0;
        loop {
            let mut open = self.open(session).await?;
            let child = open.child.clone();
            match self.attempt(&mut open, session).await? {
                Heard::Reply(reply) if reply.streams => {
                    let writing = ProcessStream::new(open, self.counted.take(), self.policy.timeout);
                    *stream = Some(Box::new(writing));
                    return Ok(reply);
                }
                Heard::Reply(reply) => {
                    open.over();
                    return match reply.outcome {
                        Outcome::Failed(failure) => Err(failure),
                        _ => Ok(reply),
                    };
                }
                Heard::Gone | Heard::Missed if settled => return Err(homeless(&child)),
                Heard::Missed => {
                    session.home = None;
                    // Its end is seen here before the thread that reads has seen it: nobody is to be sent there again.
                    child.end();
                }
                Heard::Gone => {
                    session.home = None;
                    if !self.policy.idempotent || retries >= self.policy.retry.max {
                        return Err(died(&child, "while it had the call"));
                    }
                    retries += 1;
                    self.call.attempt += 1;
                    self.entry.shared.retried.fetch_add(1, Relaxed);
                }
            }
        }
    }

    async fn open(&self, session: &ProcessSession) -> Result<OpenCall, Failure> {
        let Some(home) = &session.home else {
            return self.entry.shared.children.open(self.id, self.deadline).await;
        };
        home.open(self.id).map_err(|refused| match refused {
            Refused::Ended => homeless(home),
            Refused::Full => Failure::new(
                FailureKind::Overloaded,
                "the process that has the session has as many calls as it may have",
            ),
        })
    }

    /// Gives the call to one process and waits for what becomes of it.
    async fn attempt(&mut self, open: &mut OpenCall, session: &mut ProcessSession) -> Result<Heard, Failure> {
        let frame = self.encode(session.id)?;
        match open.begin(frame, self.deadline).await {
            // From now on there may be something to close there.
            Ok(()) if self.entry.keeps => session.home = Some(open.child.clone()),
            Ok(()) => {}
            Err(Unsent::Closed) => return Ok(Heard::Missed),
            Err(Unsent::TimedOut) => return Err(self.timed_out(open)),
        }
        loop {
            let Ok(event) = timeout_at(self.deadline.into(), open.event()).await else {
                return Err(self.timed_out(open));
            };
            let heard = match event {
                Event::Gone => Ok(Some(Heard::Gone)),
                Event::Frame(kind, frame) => self.understand(kind, &frame, open).await,
            };
            match heard {
                Ok(None) => {}
                Ok(Some(heard)) => return Ok(heard),
                Err(Unanswered::Gone) => return Ok(Heard::Gone),
                Err(Unanswered::Failed(failure)) => return Err(failure),
            }
        }
    }

    fn encode(&self, session: SessionId) -> Result<Frame, Failure> {
        let meta = CallMeta {
            id: self.id,
            session,
            plugin: &self.entry.shared.name,
            entry: &self.entry.name,
            remaining: self.deadline.saturating_duration_since(Instant::now()),
            claim: false,
            traceparent: self.exchange.request.headers.get("traceparent").map(|value| value.as_bytes()),
            inline_request_body: INLINE_BODY,
            inline_response_body: INLINE_BODY,
        };
        framed(|buffer| encode_call(buffer, &meta, &self.call, &self.exchange))
            .map_err(|why| Failure::new(FailureKind::Protocol, format!("the call cannot be sent: {why}")))
    }

    async fn understand(
        &mut self,
        kind: Kind,
        frame: &Bytes,
        open: &OpenCall,
    ) -> Result<Option<Heard>, Unanswered> {
        match kind {
            Kind::Reply => {
                let streaming = self.exchange.chunk.is_some();
                let mut reply = Reply::decode(frame, self.call.phase, streaming).map_err(protocol)?;
                let worker = reply.worker.clone();
                reply.put_back(|which| self.bodies.taken(&worker, which)).map_err(protocol)?;
                open.child.answered.fetch_add(1, Relaxed);
                Ok(Some(Heard::Reply(reply)))
            }
            Kind::Read => {
                self.answer_read(ReadFrame::decode(frame).map_err(protocol)?, open).await?;
                Ok(None)
            }
            Kind::Chunk => {
                self.take_chunk(ChunkFrame::decode(frame).map_err(protocol)?, open).await?;
                Ok(None)
            }
            kind => {
                let message = format!("the plugin's process answered with a {} frame", kind.name());
                Err(Failure::new(FailureKind::Protocol, message).into())
            }
        }
    }

    /// Sends the body that a handler asked for. The wait for the client does not count.
    async fn answer_read(&mut self, read: ReadFrame, open: &OpenCall) -> Result<(), Unanswered> {
        let body = match read.which {
            Which::Request => request_body(&mut self.exchange, self.body, &mut self.deadline).await,
            // One of these two: checked when the frame was read.
            _ => {
                let source = self.response_body.as_mut();
                let source = source.map(|source| &mut **source as &mut dyn BodySource);
                response_body(&mut self.exchange, source, &mut self.deadline).await
            }
        };
        for answer in self.bodies.answers(self.id, &read, body, MAX_FRAME, &mut self.deadline) {
            self.send(|buffer| answer.encode(buffer), open).await?;
        }
        Ok(())
    }

    /// Takes a part of a body that the handler has made, and says how far the process may go.
    async fn take_chunk(&mut self, chunk: ChunkFrame, open: &OpenCall) -> Result<(), Unanswered> {
        let which = chunk.which;
        let taken = self.bodies.take(chunk);
        self.deadline = self.bodies.moved(self.deadline);
        if let Some(up_to) = taken? {
            let credit = CreditFrame { id: self.id, which, up_to: Ok(up_to) };
            self.send(|buffer| credit.encode(buffer), open).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        open: &OpenCall,
    ) -> Result<(), Unanswered> {
        let frame = framed(encode).map_err(protocol)?;
        match open.send(frame, self.deadline).await {
            Ok(()) => Ok(()),
            Err(Unsent::Closed) => Err(Unanswered::Gone),
            Err(Unsent::TimedOut) => Err(self.timed_out(open).into()),
        }
    }

    fn timed_out(&self, open: &OpenCall) -> Failure {
        open.child.note_silence();
        let message = format!("no result in time from the plugin's process {}", open.child.pid);
        Failure::new(FailureKind::TimedOut, message)
    }
}

/// Why an exchange of frames with a process came to nothing.
enum Unanswered {
    Gone,
    Failed(Failure),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Unanswered {
        Unanswered::Failed(failure)
    }
}

fn protocol(why: WireError) -> Failure {
    Failure::new(FailureKind::Protocol, format!("an answer of the plugin's process is not valid: {why}"))
}

fn died(child: &Child, when: &str) -> Failure {
    let message = format!("the plugin's process {} died {when}", child.pid);
    Failure::new(FailureKind::WorkerDied, message)
}

fn homeless(child: &Child) -> Failure {
    died(child, "and the session's closures with it")
}
