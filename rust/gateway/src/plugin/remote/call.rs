//! One call: send, wait, answer reads, check, apply.
//!
//! The deadline bounds every wait, sending included. A call that nobody received (no responders, everybody
//! busy) is sent again while the policy and the time allow it; one that may have run never is.

use super::RemoteEntry;
use super::correlation::{Event, Waiting};
use super::life::Life;
use super::session::{Home, RemoteSession};
use crate::plugin::{BodySource, Pending, PhaseCall, Session};
use bytes::Bytes;
use nylon_config::plan::{Overflow, PhasePolicy};
use nylon_core::{Call, Exchange, Failure, FailureKind, Finished, Op, Outcome, Phase, RequestBody};
use nylon_wire::{
    BodyFrame, Busy, CallId, CallMeta, Envelope, Kind, ReadFrame, Reply, SessionId, Text, Which, WireError,
    encode_call, limits,
};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout_at;

/// Workers that are asked before "busy" is the answer.
const MAX_HOPS: u32 = 3;
/// A frame buffer that grew beyond this is given back after the call.
const KEEP_BUFFER: usize = 512 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Starts a call.
pub(super) fn run<'a>(entry: &'a RemoteEntry, phase_call: PhaseCall<'a>) -> Pending<'a> {
    let PhaseCall { exchange, call, policy, deadline, session, body } = phase_call;
    let remote = remote_session(entry, session);
    let home = remote.home.clone().filter(|home| home.keeps);
    if home.as_ref().and_then(|home| home.phases).is_some_and(|phases| !phases.contains(call.phase)) {
        // The worker that has this session lacks the phase, whatever other workers have.
        return Pending::Ready(finished(exchange, Outcome::Next, None));
    }
    Pending::Later(Box::pin(async move {
        let _counted = Counted::new(&entry.group.in_flight);
        let mut running =
            Running { entry, exchange, call, policy, deadline, home, id: entry.connection.new_call(), body };
        let result = running.result(remote).await;
        let Running { exchange, call, .. } = running;
        match result {
            Ok(reply) => apply(exchange, call.phase, reply),
            Err(failure) => finished(exchange, Outcome::Failed(failure), None),
        }
    }))
}

fn finished(exchange: Box<Exchange>, outcome: Outcome, state: Option<Bytes>) -> Finished {
    Finished { exchange, outcome, ops: Vec::new(), state }
}

/// All mutations were checked when the reply was decoded, and there is room for them, so applying them cannot fail
/// half-way.
fn apply(mut exchange: Box<Exchange>, phase: Phase, reply: Reply) -> Finished {
    let drafts_count = phase != Phase::RequestFilter || reply.outcome == Outcome::End;
    if let Err(error) = Op::check_room(&reply.ops, &exchange) {
        let failure = Failure::new(FailureKind::Protocol, format!("the worker's reply: {error}"));
        return finished(exchange, Outcome::Failed(failure), None);
    }
    let ops = reply.ops.into_iter().filter(|op| drafts_count || op.is_request());
    ops.for_each(|op: Op| op.apply(&mut exchange));
    finished(exchange, reply.outcome, reply.state)
}

fn remote_session<'a>(entry: &RemoteEntry, session: &'a mut Session) -> &'a mut RemoteSession {
    let slot = &mut session.slot;
    if !slot.as_ref().is_some_and(|kept| kept.is::<RemoteSession>()) {
        *slot = Some(Box::new(RemoteSession::new(&entry.connection)));
    }
    slot.as_mut()
        .and_then(|kept| kept.downcast_mut())
        .expect("the slot holds a RemoteSession: put there above")
}

/// Counts the calls in flight, also when one is given up.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Counted<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one round of sending and waiting came to.
enum Round {
    Replied(Reply),
    /// Nobody received it.
    NoResponders,
    /// A worker received it and had no room.
    Busy,
}

struct Running<'a> {
    entry: &'a RemoteEntry,
    exchange: Box<Exchange>,
    call: Call,
    policy: &'a PhasePolicy,
    deadline: Instant,
    /// The only worker that may run this call.
    home: Option<Home>,
    id: CallId,
    body: &'a mut dyn BodySource,
}

/// Remembers, also when the call is given up, which worker has something of the session.
struct Involved<'a> {
    waiting: Waiting,
    session: &'a mut RemoteSession,
    entry: &'a RemoteEntry,
}

impl Drop for Involved<'_> {
    fn drop(&mut self) {
        if self.session.home.is_none()
            && let Some(worker) = self.waiting.acked_by()
            && let Ok(subject) = self.entry.group.subjects.worker(worker.as_str())
        {
            let keeps = self.entry.known.keeps_sessions();
            self.session.home = Some(Home { worker, subject, keeps, phases: None });
        }
    }
}

impl Running<'_> {
    async fn result(&mut self, session: &mut RemoteSession) -> Result<Reply, Failure> {
        let entry = self.entry;
        // Checked before anything waits: without a broker there is nothing to wait for.
        self.life()?;
        let _permit = permit(entry, self.deadline).await?;
        let session_id = session.id;
        let involved = Involved { waiting: entry.connection.slots.open(), session, entry };
        let (mut undelivered, mut hops) = (0, 0);
        let mut pause = self.policy.retry.backoff_initial;
        let mut direct: Option<String> = None;
        loop {
            let subject = match (&self.home, &direct) {
                (Some(home), _) => home.subject.clone(),
                (None, Some(subject)) => subject.clone(),
                (None, None) => entry.group.subjects.call.clone(),
            };
            match self.round(subject, session_id, &involved.waiting).await? {
                Round::Replied(reply) => {
                    let lacking =
                        matches!(&reply.outcome, Outcome::Failed(f) if f.kind == FailureKind::UnknownEntry);
                    let elsewhere = || entry.group.another_with(&entry.name, reply.worker.as_str());
                    if lacking
                        && self.home.is_none()
                        && direct.is_none()
                        && let Some(worker) = elsewhere()
                    {
                        // In a group of mixed versions the queue picked one without the entry: nothing has run.
                        direct = entry.group.subjects.worker(&worker).ok();
                        continue;
                    }
                    if !lacking {
                        self.settle(involved.session, &reply)?;
                    }
                    return match reply.outcome {
                        Outcome::Failed(failure) => Err(failure),
                        _ => Ok(reply),
                    };
                }
                Round::NoResponders => {
                    if let Some(home) = &self.home {
                        let worker = home.worker.as_str();
                        return Err(unavailable(format!(
                            "worker {worker:?}, which has this session, is gone"
                        )));
                    }
                    direct = None;
                    undelivered += 1;
                    let resume = Instant::now() + pause;
                    if undelivered > self.policy.retry.max || resume >= self.deadline {
                        let group = &entry.group.name;
                        return Err(unavailable(format!("no worker of group {group:?} is there")));
                    }
                    tokio::time::sleep_until(resume.into()).await;
                    pause = (pause * 2).min(self.policy.retry.backoff_max);
                }
                Round::Busy => {
                    hops += 1;
                    if hops > MAX_HOPS || self.home.is_some() {
                        return Err(Failure::new(
                            FailureKind::Overloaded,
                            "every worker that was asked is busy",
                        ));
                    }
                }
            }
        }
    }

    fn life(&self) -> Result<Arc<Life>, Failure> {
        let connection = &self.entry.connection;
        connection.life().ok_or_else(|| {
            unavailable(
                connection.ready().err().unwrap_or_else(|| "the connection just came back".to_owned()),
            )
        })
    }

    /// Sends the call once and waits for what becomes of it.
    async fn round(
        &mut self,
        subject: String,
        session: SessionId,
        waiting: &Waiting,
    ) -> Result<Round, Failure> {
        let life = self.life()?;
        let frame = self.encode(session, life.max_payload)?;
        let reply_to = waiting.reply_subject(&self.entry.connection.inbox);
        let sent = timeout_at(self.deadline.into(), life.client.publish_with_reply(subject, reply_to, frame));
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(unavailable(format!("the call could not be sent: {why}"))),
            Err(_) => {
                const WHY: &str = "the broker took no message in time: the connection is congested";
                return Err(Failure::new(FailureKind::TimedOut, WHY));
            }
        }
        loop {
            let Ok(event) = timeout_at(self.deadline.into(), waiting.event()).await else {
                return Err(self.timed_out(waiting.acked_by()));
            };
            let frame = match event {
                Event::NoResponders => return Ok(Round::NoResponders),
                Event::Frame(frame) => frame,
            };
            match Envelope::peek(&frame).map_err(|why| protocol(&why))?.kind {
                Kind::Reply => {
                    let streaming = self.exchange.chunk.is_some();
                    let reply =
                        Reply::decode(&frame, self.call.phase, streaming).map_err(|why| protocol(&why))?;
                    if reply.id == self.id {
                        return Ok(Round::Replied(reply));
                    }
                    tracing::warn!("a reply to another call came in and was ignored: {:?}", reply.id);
                }
                Kind::Busy => {
                    Busy::decode(&frame).map_err(|why| protocol(&why))?;
                    return Ok(Round::Busy);
                }
                Kind::Read => {
                    let read = ReadFrame::decode(&frame).map_err(|why| protocol(&why))?;
                    self.answer_read(read, &life).await?;
                }
                // Acks do not come this far, and nothing else is an answer to a call.
                kind => {
                    let message = format!("a worker answered with a {} frame", kind.name());
                    return Err(Failure::new(FailureKind::Protocol, message));
                }
            }
        }
    }

    fn timed_out(&self, acked_by: Option<Text>) -> Failure {
        let message = match acked_by {
            Some(worker) => format!("no result in time from worker {:?}", worker.as_str()),
            None => {
                format!("no result in time from group {:?}; no worker took the call", self.entry.group.name)
            }
        };
        Failure::new(FailureKind::TimedOut, message)
    }

    fn encode(&self, session: SessionId, max_payload: usize) -> Result<Bytes, Failure> {
        let phase = self.call.phase;
        let wants_request = phase == Phase::RequestFilter && self.entry.known.traits().request_body;
        let ahead = limits::INLINE_BODY.min(max_payload / 4);
        let inline = |wanted| if wanted { limits::MAX_FRAME } else { ahead };
        let meta = CallMeta {
            id: self.id,
            session,
            plugin: &self.entry.plugin,
            entry: &self.entry.name,
            remaining: self.deadline.saturating_duration_since(Instant::now()),
            claim: false,
            traceparent: self.exchange.request.headers.get("traceparent").map(|value| value.as_bytes()),
            inline_request_body: inline(wants_request),
            inline_response_body: inline(phase == Phase::ResponseBodyFilter),
        };
        let frame = in_buffer(|buffer| encode_call(buffer, &meta, &self.call, &self.exchange))
            .map_err(|why| Failure::new(FailureKind::Protocol, format!("the call cannot be sent: {why}")))?;
        if frame.len() <= max_payload {
            return Ok(frame);
        }
        let bodies = (self.exchange.request_body.bytes(), self.exchange.response_body.bytes());
        let held = bodies.0.map_or(0, Bytes::len).max(bodies.1.map_or(0, Bytes::len));
        let kind = if held > ahead { FailureKind::BodyTooLarge } else { FailureKind::Protocol };
        let size = frame.len();
        Err(Failure::new(
            kind,
            format!("the call has {size} bytes, but the broker's max_payload is {max_payload}"),
        ))
    }

    /// Sends the worker the body that its handler asked for. The wait for the client does not count.
    async fn answer_read(&mut self, read: ReadFrame, life: &Life) -> Result<(), Failure> {
        let subject = self.entry.group.subjects.worker(read.worker.as_str());
        let subject = subject.map_err(|why| Failure::new(FailureKind::Protocol, why.to_string()))?;
        let body = match read.which {
            Which::Request => self.request_body().await,
            Which::Response => self.exchange.response_body.bytes().cloned().ok_or_else(|| {
                Failure::new(FailureKind::BodyUnreadable, "the response body streams past and cannot be read")
            }),
        };
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        let mut answer = BodyFrame { id: self.id, which: read.which, body, remaining };
        let mut frame = in_buffer(|buffer| answer.encode(buffer)).map_err(|why| protocol(&why))?;
        if frame.len() > life.max_payload {
            let (size, limit) = (frame.len(), life.max_payload);
            let message =
                format!("the body's message has {size} bytes, but the broker's max_payload is {limit}");
            answer.body = Err(Failure::new(FailureKind::BodyTooLarge, message));
            frame = in_buffer(|buffer| answer.encode(buffer)).map_err(|why| protocol(&why))?;
        }
        match timeout_at(self.deadline.into(), life.client.publish(subject, frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(unavailable(format!("the body could not be sent: {why}"))),
            Err(_) => Err(self.timed_out(Some(read.worker))),
        }
    }

    async fn request_body(&mut self) -> Result<Bytes, Failure> {
        if let Some(bytes) = self.exchange.request_body.bytes() {
            return Ok(bytes.clone());
        }
        let asked = Instant::now();
        let bytes = self.body.read().await;
        self.deadline += asked.elapsed();
        let bytes = bytes?;
        // It stays read whatever becomes of the call, since the connection has it no more.
        self.exchange.request_body = RequestBody::Read(bytes.clone());
        Ok(bytes)
    }

    /// Notes who has the session now.
    fn settle(&self, session: &mut RemoteSession, reply: &Reply) -> Result<(), Failure> {
        if session.home.is_some() && self.home.is_some() {
            return Ok(());
        }
        let subject = self.entry.group.subjects.worker(reply.worker.as_str());
        let subject = subject.map_err(|why| Failure::new(FailureKind::Protocol, why.to_string()))?;
        session.home = Some(Home {
            worker: Text::from(reply.worker.as_str()),
            subject,
            keeps: reply.shape.map_or_else(|| self.entry.known.keeps_sessions(), |shape| shape.session),
            phases: reply.shape.map(|shape| shape.phases),
        });
        Ok(())
    }
}

/// A place among the calls in flight.
async fn permit(entry: &RemoteEntry, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
    let connection = &entry.connection;
    if let Ok(permit) = connection.permits.try_acquire() {
        return Ok(permit);
    }
    let full = || Failure::new(FailureKind::Overloaded, "max_inflight calls are in flight already");
    match connection.overflow {
        Overflow::Reject => Err(full()),
        Overflow::Queue => match timeout_at(deadline.into(), connection.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full()),
        },
    }
}

fn unavailable(message: String) -> Failure {
    Failure::new(FailureKind::Unavailable, message)
}

fn protocol(why: &WireError) -> Failure {
    Failure::new(FailureKind::Protocol, format!("a worker's answer is not valid: {why}"))
}

/// Encodes into this thread's buffer and copies out what it came to.
fn in_buffer(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) -> Result<Bytes, WireError> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let frame = encode(buffer).map(|()| Bytes::copy_from_slice(buffer));
        if buffer.capacity() > KEEP_BUFFER {
            *buffer = Vec::new();
        }
        frame
    })
}
