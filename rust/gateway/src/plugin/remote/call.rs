//! One call: what it starts with, and what its end does to exchange and session.
//!
//! Its course over the workers lies between (course.rs), one attempt of it in attempt.rs.

use super::RemoteEntry;
use super::claims::Claims;
use super::course::Tried;
use super::lane::Lane;
use super::session::{Home, RemoteSession, Served};
use super::stream::RemoteStream;
use super::waiting::Waiting;
use super::workers::Group;
use crate::plugin::bodies::Bodies;
use crate::plugin::reply::{apply, finished};
use crate::plugin::{BodySource, Pending, PhaseCall, ResponseStream, Session};
use nylon_config::plan::PhasePolicy;
use nylon_core::{Call, Exchange, Failure, FailureKind, Outcome};
use nylon_wire::{CallId, Reply};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Starts a call.
pub(super) fn run<'a>(entry: &'a RemoteEntry, phase_call: PhaseCall<'a>) -> Pending<'a> {
    let PhaseCall { exchange, call, policy, deadline, session, body, stream, .. } = phase_call;
    let remote = remote_session(entry, session);
    let home = remote.home.clone().filter(|home| home.keeps);
    if home.as_ref().and_then(|home| home.phases).is_some_and(|phases| !phases.contains(call.phase)) {
        // The worker that has this session lacks the phase, whatever other workers have.
        return Pending::Ready(finished(exchange, Outcome::Next, None));
    }
    let on = remote.on.clone();
    if !on.known.traits().phases.contains(call.phase) {
        // Another group of the plugin has the phase; in the one that serves this session nobody has.
        return Pending::Ready(finished(exchange, Outcome::Next, None));
    }
    Pending::Later(Box::pin(async move {
        let (_counted, group, begun) = (Counted::new(&on.group), on.group.clone(), Instant::now());
        let (id, bodies) = (entry.connection.new_call(), Bodies::new(body.limit() as u64));
        let tried = Tried::new(policy.retry.backoff_initial);
        let claims = Claims::new(!policy.idempotent);
        let mut running = Running {
            entry,
            lane: entry.connection.lane(),
            on,
            exchange,
            call,
            policy,
            deadline,
            home,
            id,
            body,
            bodies,
            tried,
            claims,
            message: 0,
            sent: 0,
            stream: None,
        };
        let result = running.result(remote).await;
        if result.is_err() && running.on.known.keeps_sessions() {
            remote.left.extend(running.tried.left().cloned());
        }
        let Running { exchange, call, stream: writing, .. } = running;
        let finished = match result {
            Ok(Some(reply)) => apply(exchange, call.phase, reply),
            // Kept for later: what becomes of it is counted there.
            Ok(None) => return finished(exchange, Outcome::Next, None),
            Err(failure) => finished(exchange, Outcome::Failed(failure), None),
        };
        if finished.outcome == Outcome::End {
            *stream = writing.map(|writing| Box::new(writing) as Box<dyn ResponseStream>);
        }
        group.tally.count(&finished.outcome, begun.elapsed());
        finished
    }))
}

pub(super) fn remote_session<'a>(entry: &RemoteEntry, session: &'a mut Session) -> &'a mut RemoteSession {
    let slot = &mut session.slot;
    if !slot.as_ref().is_some_and(|kept| kept.is::<RemoteSession>()) {
        *slot = Some(Box::new(RemoteSession::new(&entry.connection, entry.serving())));
    }
    slot.as_mut()
        .and_then(|kept| kept.downcast_mut())
        .expect("the slot holds a RemoteSession: put there above")
}

/// Counts the calls in flight, also when one is given up.
pub(super) struct Counted(Arc<Group>);

impl Counted {
    fn new(group: &Arc<Group>) -> Counted {
        group.in_flight.fetch_add(1, Ordering::Relaxed);
        Counted(group.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that is under way.
pub(super) struct Running<'a> {
    pub(super) entry: &'a RemoteEntry,
    /// The way to the broker, for all its attempts.
    pub(super) lane: Arc<Lane>,
    /// The group that serves it, for all its attempts.
    pub(super) on: Arc<Served>,
    pub(super) exchange: Box<Exchange>,
    pub(super) call: Call,
    pub(super) policy: &'a PhasePolicy,
    /// When the result is due; the wait for a client's body moves it back.
    pub(super) deadline: Instant,
    /// The only worker that may run this call.
    pub(super) home: Option<Home>,
    pub(super) id: CallId,
    pub(super) body: &'a mut dyn BodySource,
    /// What of bodies travels in parts.
    pub(super) bodies: Bodies,
    pub(super) tried: Tried,
    pub(super) claims: Claims,
    /// The number of the latest message that is to be answered, and of the latest that was the call itself.
    pub(super) message: u32,
    pub(super) sent: u32,
    /// What the handler goes on writing.
    stream: Option<RemoteStream>,
}

/// Remembers, also when the call is given up, which worker has something of the session.
pub(super) struct Involved<'a> {
    pub(super) waiting: Waiting,
    pub(super) session: &'a mut RemoteSession,
    /// The call, where whoever takes it opens the session.
    pub(super) opening: Option<CallId>,
}

impl Drop for Involved<'_> {
    fn drop(&mut self) {
        if self.session.home.is_none()
            && let Some(peer) = self.waiting.taken_by()
        {
            let keeps = self.session.on.known.keeps_sessions();
            self.session.home = Some(Home { peer, keeps, phases: None });
        }
        let Some(call) = self.opening else { return };
        self.session.left.extend(self.waiting.others());
        if self.session.home.is_none() || self.waiting.was_sent_again() {
            let RemoteSession { id, on, home, left, .. } = &*self.session;
            let known = home.iter().map(|home| &home.peer).chain(left).cloned().collect();
            self.waiting.orphans().remember(call, *id, &on.group, known);
        }
    }
}

impl Running<'_> {
    /// Notes who has the session now, and says what the call came to.
    pub(super) fn settle(&mut self, mut involved: Involved<'_>, reply: Reply) -> Result<Reply, Failure> {
        let failure = match &reply.outcome {
            Outcome::Failed(failure) => Some(failure.clone()),
            _ => None,
        };
        let lacking = failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::UnknownEntry);
        if !lacking && (involved.session.home.is_none() || self.home.is_none()) {
            let peer = self.worker(reply.worker.as_str())?;
            let keeps = reply.shape.map_or_else(|| self.on.known.keeps_sessions(), |shape| shape.session);
            if keeps {
                let left = self.tried.left().filter(|left| !Arc::ptr_eq(left, &peer));
                involved.session.left.extend(left.cloned());
            }
            involved.session.home = Some(Home { peer, keeps, phases: reply.shape.map(|shape| shape.phases) });
        }
        if reply.streams {
            let group = &self.on.group;
            // The call's slot goes on with the stream; a fresh one stays here, to be closed.
            let fresh = self.lane.slots.open(self.id, group);
            let waiting = std::mem::replace(&mut involved.waiting, fresh);
            let (worker, counted) = (self.worker(reply.worker.as_str())?, Counted::new(group));
            let ways = (self.entry.connection.clone(), self.lane.clone());
            let patience = self.policy.timeout;
            self.stream = Some(RemoteStream::new(waiting, ways, counted, self.id, worker, patience));
        }
        failure.map_or(Ok(reply), Err)
    }
}
