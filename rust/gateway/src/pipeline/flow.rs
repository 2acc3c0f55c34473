//! One exchange on its way through the middlewares of its rule.
//!
//! A [`Flow`] owns the exchange between calls and lends it to the host during one. It knows which links took
//! part, and so which of them the later phases are for.

use super::live::{Link, LivePlan, Rule};
use super::service_body::HandlerBody;
use super::source::RequestSource;
use crate::plugin::{BodySource, Pending, PhaseCall, Session};
use crate::respond::{self, ErrorAnswer};
use crate::worker::Worker;
use bytes::Bytes;
use http::Method;
use nylon_config::plan::OnError;
use nylon_core::template::TooLong;
use nylon_core::{Call, Exchange, Failure, FailureKind, Outcome, Phase, ResponseBody};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// One exchange × its rule.
pub(super) struct Flow {
    /// Before `live`, and so dropped before it: once nobody holds a plan, its hosts have no session left.
    parts: Vec<Part>,
    /// What the handler that ended still writes.
    pub(super) stream: Option<HandlerBody>,
    pub(super) worker: Rc<Worker>,
    pub(super) live: Arc<LivePlan>,
    pub(super) rule: usize,
    /// None only while a host has it.
    exchange: Option<Box<Exchange>>,
    pub(super) body: RequestSource,
    pub(super) started: Instant,
    /// As the client sent it: it decides whether a body may follow, whatever a handler makes of the request.
    pub(super) client_method: Method,
}

const LENT: &str = "the exchange is lent only during a call, and a host always gives it back";

/// One link's part in the exchange.
#[derive(Default)]
struct Part {
    session: Session,
    /// Not for this request, as the client sent it: the link is as if it was not there.
    skipped: bool,
    /// What its handlers find in their payload, once it was rendered; a constant one is the link's own.
    payload: Option<Bytes>,
    /// The chain came this far: `logging` is owed.
    reached: bool,
    /// Its `request_filter` ended well and no later phase failed: the response phases are owed.
    sound: bool,
}

/// What a phase came to under its policy.
pub(super) enum Verdict {
    /// Go on.
    Next,
    /// Stop here; the response is the handler's.
    End,
    /// Stop here; the exchange ends with this failure.
    Fail(FailureKind),
}

impl Flow {
    pub(super) fn new(
        worker: Rc<Worker>,
        live: Arc<LivePlan>,
        rule: usize,
        exchange: Box<Exchange>,
        body: RequestSource,
        started: Instant,
    ) -> Flow {
        let part = |link: &Link| Part { skipped: !link.is_for(&exchange.request), ..Part::default() };
        let parts = live.rules[rule].links.iter().map(part).collect();
        let client_method = exchange.request.method.clone();
        Flow {
            worker,
            live,
            rule,
            exchange: Some(exchange),
            body,
            started,
            client_method,
            parts,
            stream: None,
        }
    }

    pub(super) fn exchange(&self) -> &Exchange {
        self.exchange.as_deref().expect(LENT)
    }

    pub(super) fn exchange_mut(&mut self) -> &mut Exchange {
        self.exchange.as_deref_mut().expect(LENT)
    }

    /// The exchange, which goes on without its flow.
    pub(super) fn take_exchange(&mut self) -> Box<Exchange> {
        self.exchange.take().expect(LENT)
    }

    pub(super) fn rule(&self) -> &Rule {
        &self.live.rules[self.rule]
    }

    pub(super) fn link(&self, index: usize) -> &Link {
        &self.rule().links[index]
    }

    /// The links that a response phase is for, in its order: the reverse of the one written.
    pub(super) fn owed(&self, phase: Phase) -> Vec<usize> {
        let due = |part: &Part| if phase == Phase::Logging { part.reached } else { part.sound };
        let parts = self.parts.iter().enumerate().rev();
        parts.filter(|(index, part)| due(part) && self.link(*index).handles(phase)).map(|(i, _)| i).collect()
    }

    /// Whether the link still takes part in the response phases.
    pub(super) fn is_sound(&self, index: usize) -> bool {
        self.parts[index].sound
    }

    /// Whether the link has no part in this exchange.
    pub(super) fn is_skipped(&self, index: usize) -> bool {
        self.parts[index].skipped
    }

    /// Whether the link has decided to take the chunks of the body.
    pub(super) fn takes_chunks(&self, index: usize) -> bool {
        self.parts[index].session.takes_chunks
    }

    /// Runs `request_filter` over the chain.
    pub(super) async fn request_phase(&mut self) -> Verdict {
        for index in 0..self.parts.len() {
            if self.parts[index].skipped {
                continue;
            }
            self.parts[index].reached = true;
            let traits = self.link(index).entry.traits();
            if !traits.phases.contains(Phase::RequestFilter) {
                self.parts[index].sound = true;
                continue;
            }
            if traits.request_body && self.exchange().request_body.bytes().is_none() {
                // A failure shows in `body.failure()`, which ends the exchange whatever the policy.
                let _ = self.body.read().await;
                let Flow { body, exchange, .. } = self;
                body.restore(&mut exchange.as_mut().expect(LENT).request_body);
            }
            // Until the first link's call nothing was waited for, and the clock need not be read again.
            let now = if index == 0 && !traits.request_body { self.started } else { Instant::now() };
            let verdict = match self.body.failure() {
                None => self.call_at(now, index, Phase::RequestFilter, None).await,
                Some(_) => Verdict::Next,
            };
            // What was read of a body that could not be read whole is gone: nothing may be forwarded.
            if let Some(failure) = self.body.failure() {
                let kind = failure.kind;
                self.judge(index, Phase::RequestFilter, failure);
                return Verdict::Fail(kind);
            }
            match verdict {
                Verdict::Next => {}
                verdict => return verdict,
            }
        }
        Verdict::Next
    }

    /// Runs `response_filter` over the links that it is for.
    pub(super) async fn response_phase(&mut self) {
        for index in self.owed(Phase::ResponseFilter) {
            match self.call(index, Phase::ResponseFilter).await {
                Verdict::Next => {}
                Verdict::End => return,
                Verdict::Fail(kind) => return self.answer(respond::plugin_failure(kind)),
            }
        }
    }

    /// Calls one link for one phase and applies the phase's policy to a failure.
    pub(super) async fn call(&mut self, index: usize, phase: Phase) -> Verdict {
        self.call_at(Instant::now(), index, phase, None).await
    }

    /// The same, with the response's body for a handler that asks for it.
    pub(super) async fn call_with(
        &mut self,
        index: usize,
        phase: Phase,
        response_body: &mut dyn BodySource,
    ) -> Verdict {
        self.call_at(Instant::now(), index, phase, Some(response_body)).await
    }

    async fn call_at(
        &mut self,
        now: Instant,
        index: usize,
        phase: Phase,
        response_body: Option<&mut dyn BodySource>,
    ) -> Verdict {
        let payload = match self.payload(index) {
            Ok(payload) => payload,
            Err(error) => {
                return self.judge(index, phase, Failure::new(FailureKind::Raised, error.to_string()));
            }
        };
        let Flow { live, rule, parts, body, exchange, stream: writing, .. } = self;
        let link = &live.rules[*rule].links[index];
        let policy = link.policies.of(phase);
        let session = &mut parts[index].session;
        let mut stream = None;
        let call = PhaseCall {
            call: Call { phase, payload, state: session.state.clone(), attempt: 1 },
            exchange: exchange.take().expect(LENT),
            policy,
            deadline: now + policy.timeout,
            session,
            body,
            response_body: response_body.map(|body| body as &mut dyn BodySource),
            stream: &mut stream,
            recording: false,
        };
        let finished = match link.entry.call(call) {
            Pending::Ready(finished) => finished,
            Pending::Later(future) => future.await,
        };
        let exchange = exchange.insert(finished.exchange);
        body.restore(&mut exchange.request_body);
        if let Some(state) = finished.state {
            parts[index].session.state = state;
        }
        match finished.outcome {
            Outcome::Next | Outcome::End if phase == Phase::RequestFilter => {
                parts[index].sound = true;
                *writing =
                    stream.map(|stream| HandlerBody::new(stream, link.name.to_string(), exchange.facts.id));
                if finished.outcome == Outcome::Next { Verdict::Next } else { Verdict::End }
            }
            Outcome::Next => Verdict::Next,
            Outcome::End => Verdict::End,
            Outcome::Failed(failure) => self.judge(index, phase, failure),
        }
    }

    /// The link's payload: rendered for its first call, and the same for all that follow.
    fn payload(&mut self, index: usize) -> Result<Bytes, TooLong> {
        let link = &self.live.rules[self.rule].links[index];
        if let Some(constant) = link.payload.constant() {
            return Ok(constant.clone());
        }
        if let Some(known) = &self.parts[index].payload {
            return Ok(known.clone());
        }
        let rendered = link.payload.render(self.exchange())?;
        self.parts[index].payload = Some(rendered.clone());
        Ok(rendered)
    }

    /// Logs a failure and applies the phase's policy to it. The link is out of the response phases.
    pub(super) fn judge(&mut self, index: usize, phase: Phase, failure: Failure) -> Verdict {
        self.parts[index].sound = false;
        let link = self.link(index);
        let on_error = link.policies.of(phase).on_error;
        tracing::warn!(
            request_id = %self.exchange().facts.id,
            plugin = %link.name.plugin,
            entry = %link.name.entry,
            phase = %phase,
            kind = failure.kind.name(),
            on_error = if on_error == OnError::Fail { "fail" } else { "continue" },
            "{}", failure.message
        );
        match on_error {
            OnError::Continue => Verdict::Next,
            OnError::Fail => {
                if phase != Phase::Logging {
                    let text = format!("{phase} of {}: {failure}", link.name);
                    self.exchange_mut().sent.error = Some(text.into());
                }
                Verdict::Fail(failure.kind)
            }
        }
    }

    /// Replaces the response by one that the gateway makes.
    pub(super) fn answer(&mut self, answer: ErrorAnswer) {
        let exchange = self.exchange_mut();
        let (head, body) = answer.for_request(exchange.facts.id);
        exchange.response = head;
        exchange.response_body = ResponseBody::Replaced(body);
    }
}
