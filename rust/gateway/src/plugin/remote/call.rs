//! One call, from its start over the workers that are asked to its end.
//!
//! The deadline bounds every wait, sending included. A call that nobody received (no responders, everybody
//! busy) is sent again while the policy and the time allow it; one that may have run never is.

use super::RemoteEntry;
use super::admission::permit;
use super::attempt::{Round, unavailable};
use super::bodies::Bodies;
use super::correlation::Waiting;
use super::session::{Home, RemoteSession, Served};
use super::workers::Group;
use crate::plugin::{BodySource, Pending, PhaseCall, Session};
use bytes::Bytes;
use nylon_config::plan::PhasePolicy;
use nylon_core::{Call, Exchange, Failure, FailureKind, Finished, Op, Outcome, Phase};
use nylon_wire::{CallId, Reply, Text};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Workers that are asked before "busy" is the answer.
const MAX_HOPS: u32 = 3;

/// Starts a call.
pub(super) fn run<'a>(entry: &'a RemoteEntry, phase_call: PhaseCall<'a>) -> Pending<'a> {
    let PhaseCall { exchange, call, policy, deadline, session, body } = phase_call;
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
        let mut running = Running { entry, on, exchange, call, policy, deadline, home, id, body, bodies };
        let result = running.result(remote).await;
        let Running { exchange, call, .. } = running;
        let finished = match result {
            Ok(reply) => apply(exchange, call.phase, reply),
            Err(failure) => finished(exchange, Outcome::Failed(failure), None),
        };
        group.tally.count(&finished.outcome, begun.elapsed());
        finished
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
struct Counted(Arc<Group>);

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
    /// The group that serves it, for all its attempts.
    pub(super) on: Arc<Served>,
    pub(super) exchange: Box<Exchange>,
    pub(super) call: Call,
    pub(super) policy: &'a PhasePolicy,
    /// When the result is due; the wait for a client's body moves it back.
    pub(super) deadline: Instant,
    /// The only worker that may run this call.
    home: Option<Home>,
    pub(super) id: CallId,
    pub(super) body: &'a mut dyn BodySource,
    /// What of bodies travels in parts.
    pub(super) bodies: Bodies,
}

/// Remembers, also when the call is given up, which worker has something of the session.
struct Involved<'a> {
    waiting: Waiting,
    session: &'a mut RemoteSession,
}

impl Drop for Involved<'_> {
    fn drop(&mut self) {
        if self.session.home.is_none()
            && let Some(worker) = self.waiting.acked_by()
            && let Ok(subject) = self.session.on.group.subjects.worker(worker.as_str())
        {
            let keeps = self.session.on.known.keeps_sessions();
            self.session.home = Some(Home { worker, subject, keeps, phases: None });
        }
    }
}

impl Running<'_> {
    async fn result(&mut self, session: &mut RemoteSession) -> Result<Reply, Failure> {
        let (entry, on) = (self.entry, self.on.clone());
        let group = &on.group;
        // Checked before anything waits: without a broker there is nothing to wait for.
        self.life()?;
        let _permit = match entry.counts {
            true => Some(permit(&entry.connection, self.deadline).await?),
            false => None,
        };
        let session_id = session.id;
        let involved = Involved { waiting: entry.connection.slots.open(), session };
        let (mut undelivered, mut hops) = (0, 0);
        let mut pause = self.policy.retry.backoff_initial;
        let mut direct: Option<String> = None;
        loop {
            let subject = match (&self.home, &direct) {
                (Some(home), _) => home.subject.clone(),
                (None, Some(subject)) => subject.clone(),
                (None, None) => group.subjects.call.clone(),
            };
            match self.round(subject, session_id, &involved.waiting).await? {
                Round::Replied(reply) => {
                    let lacking =
                        matches!(&reply.outcome, Outcome::Failed(f) if f.kind == FailureKind::UnknownEntry);
                    let elsewhere = || group.another_with(&entry.name, reply.worker.as_str());
                    if lacking
                        && self.home.is_none()
                        && direct.is_none()
                        && let Some(worker) = elsewhere()
                    {
                        // In a group of mixed versions the queue picked one without the entry: nothing has run.
                        direct = group.subjects.worker(&worker).ok();
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
                        return Err(unavailable(format!("no worker of group {:?} is there", group.name)));
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

    /// Notes who has the session now.
    fn settle(&self, session: &mut RemoteSession, reply: &Reply) -> Result<(), Failure> {
        if session.home.is_some() && self.home.is_some() {
            return Ok(());
        }
        let subject = self.on.group.subjects.worker(reply.worker.as_str());
        let subject = subject.map_err(|why| Failure::new(FailureKind::Protocol, why.to_string()))?;
        session.home = Some(Home {
            worker: Text::from(reply.worker.as_str()),
            subject,
            keeps: reply.shape.map_or_else(|| self.on.known.keeps_sessions(), |shape| shape.session),
            phases: reply.shape.map(|shape| shape.phases),
        });
        Ok(())
    }
}
