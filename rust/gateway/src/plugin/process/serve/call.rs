//! One call, from its frame to its reply.

use super::answer::Answer;
use super::source::GatewaySource;
use super::{Desk, Inlets};
use crate::plugin::{BodySource, Pending, PhaseCall, ResponseStream, Session};
use nylon_config::plan::{OnError, PhasePolicy, Retry};
use nylon_core::{Failure, FailureKind, Finished, Outcome, Phase, RequestBody, ResponseBody};
use nylon_wire::{BodyPart, CallFrame, Reply, SessionId, Which};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Runs a call and answers it, unless it is given up.
pub(super) async fn run(desk: Rc<Desk>, frame: CallFrame, inlets: Inlets) {
    let Inlets { requests, responses, mut credits, cancelled } = inlets;
    let answer = Answer::new(desk.clone(), frame.id);
    let work = async {
        let mut sources = Sources {
            request: GatewaySource::new(&desk, frame.id, Which::Request, requests),
            response: GatewaySource::new(&desk, frame.id, Which::Response, responses),
        };
        let mut stream = None;
        let reply = match finished(&desk, frame, &mut sources, &mut stream).await {
            Ok(Finished { outcome, ops, state, .. }) => {
                let streams = stream.is_some() && outcome == Outcome::End;
                Reply { streams, ops, state, ..answer.reply(outcome) }
            }
            Err(failure) => answer.reply(Outcome::Failed(failure)),
        };
        let streams = reply.streams;
        answer.send(reply, &mut credits).await;
        if let Some(stream) = stream.filter(|_| streams) {
            answer.go_on(stream, &mut credits).await;
        }
    };
    tokio::select! {
        biased;
        Ok(failure) = cancelled => answer.give_up(failure),
        () = work => {}
    }
}

/// What did not come along with a call.
struct Sources {
    request: GatewaySource,
    response: GatewaySource,
}

/// Lends the handler its context and waits for what becomes of it.
async fn finished(
    desk: &Rc<Desk>,
    frame: CallFrame,
    sources: &mut Sources,
    stream: &mut Option<Box<dyn ResponseStream>>,
) -> Result<Finished, Failure> {
    let name = frame.entry.as_str();
    let Some(entry) = desk.entries.get(name) else {
        return Err(Failure::new(FailureKind::UnknownEntry, format!("the plugin has no entry {name:?}")));
    };
    let (phase, id) = (frame.phase, frame.session);
    let is_held = |body: &BodyPart| matches!(body, BodyPart::Held { .. });
    let wanted = match phase {
        Phase::RequestFilter if entry.traits().request_body && is_held(&frame.request_body) => {
            Some(Which::Request)
        }
        Phase::ResponseFilter | Phase::ResponseBodyFilter if is_held(&frame.response_body) => {
            Some(Which::Response)
        }
        _ => None,
    };
    // The gateway has the response's body read before it calls, unless the entry wants it on demand.
    let on_demand = phase == Phase::ResponseBodyFilter
        && frame.response_body == BodyPart::Absent
        && !frame.is_streaming();
    let mut due = Instant::now() + frame.remaining;
    let (mut exchange, call) = frame.into_parts().map_err(|why| {
        Failure::new(FailureKind::Protocol, format!("the plugin's process cannot read the call: {why}"))
    })?;
    if let Some(which) = wanted {
        let source = if which == Which::Request { &mut sources.request } else { &mut sources.response };
        let (body, left) = source.fetch().await?;
        due = Instant::now() + left;
        match which {
            Which::Request => exchange.request_body = RequestBody::Read(body),
            _ => exchange.response_body = ResponseBody::Read(body),
        }
    }
    let mut loan = Loan::new(desk, entry.keeps_sessions().then_some(id));
    let policy = policy(due.saturating_duration_since(Instant::now()));
    let call = PhaseCall {
        exchange,
        call,
        policy: &policy,
        deadline: due,
        session: &mut loan.session,
        body: &mut sources.request,
        response_body: on_demand.then_some(&mut sources.response as &mut dyn BodySource),
        stream,
        recording: true,
    };
    Ok(match entry.call(call) {
        Pending::Ready(finished) => finished,
        Pending::Later(later) => later.await,
    })
}

/// The gateway judges what a call comes to, and sends it again; here only its time counts.
fn policy(timeout: Duration) -> PhasePolicy {
    let retry = Retry { max: 0, backoff_initial: Duration::ZERO, backoff_max: Duration::ZERO };
    PhasePolicy { timeout, on_error: OnError::Fail, retry, idempotent: true }
}

/// A session while a call has it.
struct Loan {
    desk: Rc<Desk>,
    /// None where the entry keeps nothing.
    id: Option<SessionId>,
    session: Session,
}

impl Loan {
    fn new(desk: &Rc<Desk>, id: Option<SessionId>) -> Loan {
        let kept = id.and_then(|id| desk.sessions.borrow_mut().insert(id, None).flatten());
        Loan { desk: desk.clone(), id, session: kept.unwrap_or_default() }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        // If it was closed meanwhile, it ends here.
        if let Some(place) = self.desk.sessions.borrow_mut().get_mut(&id) {
            *place = Some(std::mem::take(&mut self.session));
        }
    }
}
