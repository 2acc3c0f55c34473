//! The course of a call over the workers: where it is sent first, and where next when that came to nothing.
//!
//! The deadline bounds every wait, sending included. A call that nobody received is sent again while policy and time
//! allow it; one that may have run is sent again only where the policy lets it run twice, with its attempt raised. A
//! raise, a time-out or an answer that makes no sense is an answer: it is never sent again.

use super::admission::permit;
use super::attempt::{Heard, unavailable};
use super::call::{Involved, Running};
use super::life::Life;
use super::peer::Peer;
use super::session::RemoteSession;
use super::vigil::Vigil;
use super::{connection::jittered, kept::KeptCall};
use nylon_config::plan::{OnError, Overflow};
use nylon_core::{Failure, FailureKind, Outcome, Phase};
use nylon_wire::Reply;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// Other workers that are asked before "busy" is the answer.
const MAX_HOPS: u32 = 3;
/// The first pause of a call that waits for room, unless some is made; it doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(10);
const MAX_WAIT: Duration = Duration::from_millis(200);
/// The pause of a call that nobody received while workers are coming back from an outage.
const SETTLING_PAUSE: Duration = Duration::from_millis(30);

/// Where a call is sent.
pub(super) enum Target {
    /// Any worker of the group: the server picks one.
    Group,
    /// This one.
    Worker(Arc<Peer>),
}

/// What to do next.
enum Step {
    Send(Target),
    /// Ask the worker that took the call for it.
    Ask,
}

/// What has been tried.
pub(super) struct Tried {
    /// Sent again although it may have run.
    retries: u32,
    /// Sent, and received by nobody.
    undelivered: u32,
    pause: Duration,
    hops: u32,
    wait: Duration,
    /// Workers that had the call and lost it, or lack the entry.
    avoid: Vec<Arc<Peer>>,
    /// Workers without room, this time round.
    full: Vec<Arc<Peer>>,
    lacking: bool,
}

impl Tried {
    pub(super) fn new(pause: Duration) -> Tried {
        Tried {
            retries: 0,
            undelivered: 0,
            pause,
            hops: 0,
            wait: FIRST_WAIT,
            avoid: Vec::new(),
            full: Vec::new(),
            lacking: false,
        }
    }

    /// Workers that had the call before it went elsewhere.
    pub(super) fn left(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.avoid.iter()
    }
}

fn overloaded(message: &'static str) -> Failure {
    Failure::new(FailureKind::Overloaded, message)
}

fn died(message: String) -> Failure {
    Failure::new(FailureKind::WorkerDied, message)
}

impl Running<'_> {
    /// The reply. None for a call of `logging` that is kept until the broker is back.
    pub(super) async fn result(&mut self, session: &mut RemoteSession) -> Result<Option<Reply>, Failure> {
        let entry = self.entry;
        if self.keeps() {
            return self.keep(session);
        }
        self.life().await?;
        let _permit = match entry.counts {
            true => Some(permit(&entry.connection, self.deadline).await?),
            false => None,
        };
        let waiting = self.lane.slots.open(self.id, &self.on.group);
        let opening = (self.home.is_none() && self.on.known.keeps_sessions()).then_some(self.id);
        let involved = Involved { waiting, session, opening };
        let (waiting, session) = (&involved.waiting, involved.session.id);
        let mut step = Step::Send(self.first_target().await?);
        loop {
            // Before the connection is looked at: if it is lost after this, the slot is told.
            match &step {
                Step::Send(Target::Group) => waiting.sending(None),
                Step::Send(Target::Worker(peer)) => waiting.sending(Some(peer)),
                Step::Ask => waiting.resumed(),
            }
            if self.keeps() && self.sent == 0 {
                return self.keep(involved.session);
            }
            let life = self.life().await?;
            if let Step::Send(target) = &step
                && !self.send(&life, target, session, waiting).await?
            {
                continue;
            }
            let patient = self.home.is_none() && self.tried.retries >= self.policy.retry.max;
            let mut vigil = match &step {
                Step::Send(_) => Vigil::over_call(Instant::now(), patient),
                Step::Ask => Vigil::over_taken(Instant::now(), patient),
            };
            step = loop {
                match self.outcome(&life, waiting, &mut vigil).await? {
                    Heard::Reply(reply) => match self.elsewhere_if_lacking(&reply) {
                        Some(target) => break Step::Send(target),
                        None => return self.settle(involved, reply).map(Some),
                    },
                    Heard::Nobody => {
                        let Step::Send(target) = step else { break step };
                        waiting.sending(None);
                        break Step::Send(self.undelivered(target, &life).await?);
                    }
                    Heard::Busy(peer) => {
                        waiting.sending(None);
                        break Step::Send(self.busy(peer).await?);
                    }
                    Heard::Silence => {
                        if let Step::Send(Target::Worker(peer)) = &step {
                            let peer = peer.clone();
                            self.on.group.suspect(&peer);
                            if let Some(home) = &self.home {
                                return Err(no_home(home.peer.name(), "does not answer"));
                            }
                            self.tried.avoid.push(peer);
                        }
                        break Step::Send(self.again());
                    }
                    Heard::Gone(peer) => {
                        self.on.group.gone(&peer);
                        break Step::Send(self.bereaved(peer, "is gone")?);
                    }
                    Heard::Forgotten(peer) => break Step::Send(self.bereaved(peer, "lost the call")?),
                    Heard::Frozen(peer) => {
                        self.on.group.suspect(&peer);
                        if patient && self.policy.idempotent {
                            // There is nothing left to try but that it comes back in time.
                            vigil.be_patient();
                            continue;
                        }
                        break Step::Send(self.bereaved(peer, "does not answer")?);
                    }
                    Heard::Lost if !self.bridges() => {
                        const WHY: &str = "the connection to the broker was lost during the call";
                        return Err(unavailable(WHY.to_owned()));
                    }
                    Heard::Lost if waiting.is_taken() => break Step::Ask,
                    Heard::Lost => {
                        self.raise_attempt();
                        break Step::Send(self.target());
                    }
                }
            };
        }
    }

    /// The connection, waited for where the policy bridges an outage.
    async fn life(&self) -> Result<Arc<Life>, Failure> {
        if let Some(life) = self.lane.life() {
            return Ok(life);
        }
        if self.bridges()
            && let Some(life) = self.lane.life_by(self.deadline).await
        {
            return Ok(life);
        }
        let why =
            self.entry.connection.ready().err().unwrap_or_else(|| "the connection just came back".to_owned());
        Err(unavailable(why))
    }

    /// Whether an outage of the broker is waited out, within the call's time.
    fn bridges(&self) -> bool {
        self.policy.retry.max > 0 && self.policy.on_error == OnError::Fail
    }

    fn raise_attempt(&mut self) {
        self.call.attempt += 1;
        self.entry.connection.counters.retries.add();
    }

    /// Whether this is a call of `logging`, and the broker is away. (A mirror's copies are not worth keeping.)
    fn keeps(&self) -> bool {
        self.call.phase == Phase::Logging && self.entry.counts && !self.lane.is_connected()
    }

    /// Keeps a call of `logging` until the broker is back.
    fn keep(&mut self, session: &mut RemoteSession) -> Result<Option<Reply>, Failure> {
        let connection = &self.entry.connection;
        let frame = self.encode(session.id, connection.max_payload())?;
        let home = session.home.as_ref().filter(|home| home.keeps);
        let subject = home.map_or(&self.on.group.subjects.call, |home| &home.peer.subject).clone();
        let close = home.is_some().then_some(session.id);
        let patience = self.policy.timeout;
        let call = KeptCall::new(self.id, self.on.group.clone(), subject, frame, patience, close);
        if !connection.kept.push(call) {
            const WHY: &str = "the broker is away, and too many calls of logging wait for it already";
            return Err(unavailable(WHY.to_owned()));
        }
        // Its end is told behind the call.
        session.home = None;
        Ok(None)
    }

    /// Where the call is sent first.
    async fn first_target(&mut self) -> Result<Target, Failure> {
        if let Some(home) = &self.home {
            if home.peer.is_suspect() {
                return Err(no_home(home.peer.name(), "does not answer"));
            }
            return Ok(Target::Worker(home.peer.clone()));
        }
        if !self.on.group.is_troubled() {
            return Ok(Target::Group);
        }
        // Those that wait already come first.
        if self.on.group.room.is_awaited() && self.queues() {
            self.wait_for_room().await?;
        }
        self.roomy_target().await
    }

    fn queues(&self) -> bool {
        self.entry.connection.overflow == Overflow::Queue
    }

    /// A worker with room, waited for where the connection's `overflow_policy` says so.
    async fn roomy_target(&mut self) -> Result<Target, Failure> {
        loop {
            let choice = self.on.group.choose(&self.entry.name, self.call.phase, &self.tried.avoid);
            let Some(choice) = choice else { return Ok(Target::Group) };
            if !choice.full || !self.queues() {
                return Ok(Target::Worker(choice.peer));
            }
            let freed = self.wait_for_room().await?;
            // Calls of others are not seen to end, so a worker that they fill is asked now and then.
            if !freed && !choice.loaded {
                return Ok(self.target());
            }
        }
    }

    /// Where the call is sent next.
    fn target(&self) -> Target {
        if let Some(home) = &self.home {
            return Target::Worker(home.peer.clone());
        }
        let choice = self.on.group.choose(&self.entry.name, self.call.phase, &self.tried.avoid);
        choice.map_or(Target::Group, |choice| Target::Worker(choice.peer))
    }

    /// Sends once more what may have run.
    fn again(&mut self) -> Target {
        self.tried.retries += 1;
        self.raise_attempt();
        self.claims.move_on();
        self.target()
    }

    /// The worker that had the call will not answer it.
    fn bereaved(&mut self, peer: Arc<Peer>, how: &str) -> Result<Target, Failure> {
        self.entry.connection.counters.deaths.add();
        let name = peer.name();
        if self.home.is_some() {
            return Err(no_home(name, how));
        }
        if !self.policy.idempotent {
            return Err(died(format!("worker {name:?} {how}; it had the call, which must not run twice")));
        }
        if self.tried.retries >= self.policy.retry.max {
            return Err(died(format!("worker {name:?} {how}; it had the call, and no retry is left")));
        }
        self.tried.avoid.push(peer);
        Ok(self.again())
    }

    /// Nobody listens where the call was sent, so nothing has run.
    async fn undelivered(&mut self, target: Target, life: &Life) -> Result<Target, Failure> {
        let settling = life.is_settling() && self.bridges();
        if let Target::Worker(peer) = target {
            if self.home.is_some() && settling {
                self.pause(SETTLING_PAUSE).await?;
                return Ok(Target::Worker(peer));
            }
            if !settling {
                self.on.group.gone(&peer);
            }
            if self.home.is_some() {
                return Err(no_home(peer.name(), "is gone"));
            }
            self.tried.avoid.push(peer);
            return Ok(self.target());
        }
        if settling {
            self.pause(SETTLING_PAUSE).await?;
            return Ok(self.target());
        }
        self.tried.undelivered += 1;
        if self.tried.undelivered > self.policy.retry.max {
            return Err(self.nobody());
        }
        let pause = self.tried.pause;
        self.tried.pause = (pause * 2).min(self.policy.retry.backoff_max);
        self.pause(pause).await?;
        Ok(self.target())
    }

    fn nobody(&self) -> Failure {
        unavailable(format!("no worker of group {:?} is there", self.on.group.name))
    }

    /// A pause, if there is time for one.
    async fn pause(&self, pause: Duration) -> Result<(), Failure> {
        let resume = Instant::now() + pause;
        if resume >= self.deadline {
            return Err(self.nobody());
        }
        tokio::time::sleep_until(resume.into()).await;
        Ok(())
    }

    /// A worker had no room: another one is asked, then the connection's `overflow_policy` decides.
    async fn busy(&mut self, peer: Arc<Peer>) -> Result<Target, Failure> {
        if self.home.is_none() {
            self.tried.hops += 1;
            self.tried.full.push(peer);
            if self.tried.hops <= MAX_HOPS
                && let Some(target) = self.another()
            {
                return Ok(target);
            }
        }
        if !self.queues() {
            return Err(overloaded("every worker that was asked is busy"));
        }
        self.tried.hops = 0;
        self.tried.full.clear();
        let freed = self.wait_for_room().await?;
        if self.home.is_some() || !freed {
            return Ok(self.target());
        }
        self.roomy_target().await
    }

    /// A worker that has not said that it is busy; the group if nobody is known.
    fn another(&self) -> Option<Target> {
        let (group, tried) = (&self.on.group, &self.tried);
        let avoid: Vec<_> = tried.avoid.iter().chain(&tried.full).cloned().collect();
        let choose = |avoid| group.choose(&self.entry.name, self.call.phase, avoid);
        match choose(&avoid) {
            Some(choice) if choice.full && self.queues() => None,
            Some(choice) => Some(Target::Worker(choice.peer)),
            None => choose(&[]).is_none().then_some(Target::Group),
        }
    }

    /// Waits until a worker may have room. True if one has become free.
    async fn wait_for_room(&mut self) -> Result<bool, Failure> {
        self.entry.connection.counters.waits.add();
        let on = self.on.clone();
        let _waiter = on.group.room.wait();
        let until = (Instant::now() + jittered(self.tried.wait)).min(self.deadline);
        self.tried.wait = (self.tried.wait * 2).min(MAX_WAIT);
        let freed = timeout_at(until.into(), on.group.room.freed.notified()).await.is_ok();
        if Instant::now() >= self.deadline {
            return Err(overloaded("every worker was busy until the call's time was up"));
        }
        Ok(freed)
    }

    /// In a group of mixed versions the queue may pick a worker without the entry: nothing has run.
    fn elsewhere_if_lacking(&mut self, reply: &Reply) -> Option<Target> {
        let lacking = matches!(&reply.outcome, Outcome::Failed(f) if f.kind == FailureKind::UnknownEntry);
        if !lacking || self.home.is_some() || std::mem::replace(&mut self.tried.lacking, true) {
            return None;
        }
        self.tried.avoid.push(self.on.group.peer(reply.worker.as_str())?);
        match self.target() {
            Target::Group => None,
            target => Some(target),
        }
    }
}

fn no_home(worker: &str, how: &str) -> Failure {
    died(format!("worker {worker:?}, which has this session, {how}"))
}
