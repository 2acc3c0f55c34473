//! A copy of each call to one more group, whose answers are only measured.
//!
//! A copy is a call like any other, of a clone of the exchange, in a task of the session's own: so closures, state and
//! retries of a worker's side work as they would if the mirror served. The exchange never waits for it. What would
//! make a slow mirror felt is bounded: copies under way, their bodies, the queue of a session. Beyond that a copy is
//! dropped and counted, and with it the rest of its session, since a handler that missed a phase says nothing about
//! the others. The same goes for a session in which the mirror has failed or decided otherwise: there it would be
//! asked about an exchange that it would never have seen.

use super::RemoteEntry;
use super::call::{self, remote_session};
use super::groups::{Groups, Share};
use crate::plugin::{BodySource, BodyUse, Pending, PhaseCall, Session};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::StatusCode;
use nylon_config::plan::PhasePolicy;
use nylon_core::{Call, Exchange, Failure, FailureKind, Finished, Outcome, Phase};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Copies of one plugin's calls that are under way.
const MAX_COPIES: usize = 256;
/// Calls of one session that wait for the mirror's answer to the one before.
const MAX_QUEUED: usize = 8;
/// Bytes of a body that goes along.
const MAX_BODY: usize = 1 << 20;

/// The mirror of one plugin.
pub(super) struct Mirror {
    pub(super) groups: Arc<Groups>,
    room: Arc<Semaphore>,
    agreed: AtomicU64,
    differed: AtomicU64,
    /// Answers to calls that were given up, so that there was nothing to compare.
    alone: AtomicU64,
    no_worker: AtomicU64,
    overloaded: AtomicU64,
    too_large: AtomicU64,
    /// The session was mirrored no further.
    session: AtomicU64,
}

/// One entry on the mirror.
pub(super) struct MirrorEntry {
    pub(super) mirror: Arc<Mirror>,
    pub(super) entry: Arc<RemoteEntry>,
}

/// What is kept of a mirrored session; dropping it ends the mirror's session as well.
pub(super) struct Mirrored(Option<mpsc::Sender<Box<CallCopy>>>);

/// One call's copy.
struct CallCopy {
    exchange: Box<Exchange>,
    call: Call,
    policy: PhasePolicy,
    /// What the call came to where it counts.
    counted: oneshot::Receiver<Decision>,
    permit: OwnedSemaphorePermit,
}

/// Whom to tell what the call came to.
pub(super) struct Tell(oneshot::Sender<Decision>);

/// What both sides are compared by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Next,
    End(StatusCode),
    Failed(FailureKind),
}

impl Mirror {
    pub(super) fn new(groups: Groups) -> Mirror {
        let zero = || AtomicU64::new(0);
        Mirror {
            groups: Arc::new(groups),
            room: Arc::new(Semaphore::new(MAX_COPIES)),
            agreed: zero(),
            differed: zero(),
            alone: zero(),
            no_worker: zero(),
            overloaded: zero(),
            too_large: zero(),
            session: zero(),
        }
    }

    /// The group with its calls, how often it agreed, and the copies that were dropped, by reason.
    pub(super) fn figures(&self) -> Value {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut figures = self.groups.figures().into_iter().next().unwrap_or_default();
        if let Some(group) = figures.as_object_mut() {
            group.remove("weight");
        }
        figures["agreed"] = load(&self.agreed).into();
        figures["differed"] = load(&self.differed).into();
        figures["not_compared"] = load(&self.alone).into();
        figures["dropped"] = json!({
            "no_worker": load(&self.no_worker),
            "overloaded": load(&self.overloaded),
            "too_large": load(&self.too_large),
            "session": load(&self.session),
        });
        figures
    }
}

impl MirrorEntry {
    /// Sends a copy of a call on its way, if there is room for one.
    pub(super) fn copy(
        self: &Arc<MirrorEntry>,
        primary: &RemoteEntry,
        call: &mut PhaseCall<'_>,
    ) -> Option<Tell> {
        let traits = self.entry.serving().known.traits();
        let phase = call.call.phase;
        // Of a body that the one takes by chunk and the other as a whole there is nothing to compare.
        let by_chunk = traits.response_body == BodyUse::ByChunk;
        let other_shape = phase == Phase::ResponseBodyFilter && by_chunk != call.exchange.chunk.is_some();
        if !traits.phases.contains(phase) || other_shape {
            return None;
        }
        let session = &mut remote_session(primary, call.session).mirrored;
        if let Some(Mirrored(None)) = session {
            return self.drop_copy(&self.mirror.session, session);
        }
        let alive = |share: &Share| share.group.size() > 0;
        if !self.entry.connection.own_lane().is_connected() || !self.mirror.groups.all().iter().any(alive) {
            return self.drop_copy(&self.mirror.no_worker, session);
        }
        if held(&call.exchange) > MAX_BODY {
            return self.drop_copy(&self.mirror.too_large, session);
        }
        let Ok(permit) = self.mirror.room.clone().try_acquire_owned() else {
            return self.drop_copy(&self.mirror.overloaded, session);
        };
        let (tell, counted) = oneshot::channel();
        let copy = Box::new(CallCopy {
            exchange: call.exchange.clone(),
            call: call.call.clone(),
            policy: call.policy.clone(),
            counted,
            permit,
        });
        let open = session.get_or_insert_with(|| {
            let (send, copies) = mpsc::channel(MAX_QUEUED);
            // Owned by the data-plane thread's runtime; it ends when the session is dropped, within a call's time.
            tokio::task::spawn_local(run(self.clone(), copies));
            Mirrored(Some(send))
        });
        match open.0.as_ref().map(|copies| copies.try_send(copy)) {
            Some(Ok(())) => Some(Tell(tell)),
            Some(Err(mpsc::error::TrySendError::Full(_))) => self.drop_copy(&self.mirror.overloaded, session),
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                self.drop_copy(&self.mirror.session, session)
            }
        }
    }

    fn drop_copy(&self, reason: &AtomicU64, session: &mut Option<Mirrored>) -> Option<Tell> {
        reason.fetch_add(1, Ordering::Relaxed);
        *session = Some(Mirrored(None));
        None
    }

    /// Holds the mirror's decision against the one that counted. True: they are the same.
    fn compare(
        &self,
        own: Decision,
        counted: Result<Decision, oneshot::error::RecvError>,
        id: &impl fmt::Display,
    ) -> bool {
        let Ok(counted) = counted else {
            self.mirror.alone.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        if own == counted {
            self.mirror.agreed.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let times = self.mirror.differed.fetch_add(1, Ordering::Relaxed) + 1;
        if times.is_power_of_two() {
            let (plugin, entry) = (&self.entry.plugin, &self.entry.name);
            tracing::warn!(%plugin, %entry, request_id = %id, times, "the mirror said {own} where {counted} counted");
        }
        false
    }
}

impl Tell {
    /// Passes a call's result on, and tells the mirror what it was.
    pub(super) fn of(self, pending: Pending<'_>) -> Pending<'_> {
        match pending {
            Pending::Ready(finished) => {
                self.tell(&finished);
                Pending::Ready(finished)
            }
            Pending::Later(later) => Pending::Later(Box::pin(async move {
                let finished = later.await;
                self.tell(&finished);
                finished
            })),
        }
    }

    fn tell(self, finished: &Finished) {
        // The mirror may have given up.
        let _ = self.0.send(Decision::of(finished));
    }
}

/// The mirror's side of one session: one call after the other, as they came.
async fn run(entry: Arc<MirrorEntry>, mut copies: mpsc::Receiver<Box<CallCopy>>) {
    let mut session = Session::default();
    while let Some(copy) = copies.recv().await {
        let CallCopy { exchange, mut call, mut policy, counted, permit } = *copy;
        call.state = session.state.clone();
        policy.retry.max = 0;
        let id = exchange.facts.id;
        let deadline = Instant::now() + policy.timeout;
        let (session_of_call, body) = (&mut session, &mut NoBody);
        // What the copy's handler would stream is wanted by nobody, which it is told when this is dropped.
        let mut unread = None;
        let copied = PhaseCall {
            exchange,
            call,
            policy: &policy,
            deadline,
            session: session_of_call,
            body,
            response_body: None,
            stream: &mut unread,
            recording: false,
        };
        let finished = match call::run(&entry.entry, copied) {
            Pending::Ready(finished) => finished,
            Pending::Later(later) => later.await,
        };
        drop(unread);
        drop(permit);
        let own = Decision::of(&finished);
        if let Some(state) = finished.state {
            session.state = state;
        }
        if !entry.compare(own, counted.await, &id) || matches!(own, Decision::Failed(_)) {
            return;
        }
    }
}

/// Bytes of bodies that a call would carry.
fn held(exchange: &Exchange) -> usize {
    let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    length(exchange.request_body.bytes())
        + length(exchange.response_body.bytes())
        + exchange.chunk.as_ref().map_or(0, |chunk| chunk.data.len())
}

/// A mirror never makes the gateway read from a client.
struct NoBody;

impl BodySource for NoBody {
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Bytes, Failure>> {
        const WHY: &str = "a mirror gets the request body only where its entry declares it";
        Box::pin(std::future::ready(Err(Failure::new(FailureKind::BodyUnreadable, WHY))))
    }

    fn limit(&self) -> usize {
        MAX_BODY
    }
}

impl Decision {
    fn of(finished: &Finished) -> Decision {
        match &finished.outcome {
            Outcome::Next => Decision::Next,
            Outcome::End => Decision::End(finished.exchange.response.status),
            Outcome::Failed(failure) => Decision::Failed(failure.kind),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Next => f.write_str("next"),
            Decision::End(status) => write!(f, "end with {}", status.as_u16()),
            Decision::Failed(kind) => f.write_str(kind.name()),
        }
    }
}
