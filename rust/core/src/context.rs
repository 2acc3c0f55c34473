//! A handler's view of one phase.
//!
//! Writes go straight into the exchange, so a handler reads its own writes; what the first write replaced is
//! kept aside, so a raise, a time-out or a retry discards them all. In the gateway the exchange itself comes
//! back; a worker sends the recorded operations instead (see [`Finished`]).

use crate::exchange::{Exchange, RequestBody, ResponseBody};
use crate::head::{RequestHead, ResponseHead};
use crate::op::{Op, OpError};
use crate::outcome::{Decision, Failure, FailureKind, Outcome};
use crate::phase::Phase;
use bytes::Bytes;

/// A part of a response body on its way through a streaming `response_body_filter`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes; what the handler leaves here goes on.
    pub data: Bytes,
    /// Whether this is the last one.
    pub end_of_stream: bool,
}

/// What a call brings beside the exchange.
#[derive(Clone, Debug)]
pub struct Call {
    /// The phase.
    pub phase: Phase,
    /// The middleware's payload, as MessagePack; empty where the config gives none.
    pub payload: Bytes,
    /// The session's state, as a MessagePack map; empty while nothing was stored.
    pub state: Bytes,
    /// 1 for the first try of this call.
    pub attempt: u32,
}

/// A second `next` or `end` in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this handler has already decided {0:?}: the first decision wins, so return after ctx.next() or ctx.end() \
     (a stream is an end)"
)]
pub struct DecisionError(pub Decision);

/// Why a response cannot be streamed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Not in this phase.
    #[error(transparent)]
    Phase(#[from] OpError),
    /// The handler has decided already.
    #[error(transparent)]
    Decided(#[from] DecisionError),
}

/// What is left when a handler has returned.
#[derive(Debug)]
pub struct Finished {
    /// The exchange, with the mutations applied or discarded as the outcome says.
    pub exchange: Box<Exchange>,
    /// What it came to.
    pub outcome: Outcome,
    /// The mutations in order, where they were recorded (in a worker) and the call did not fail.
    pub ops: Vec<Op>,
    /// The session's new state, where the handler changed it and the call did not fail.
    pub state: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Originals {
    // In boxes: most handlers change nothing, and a context is moved a few times.
    request: Option<Box<(RequestHead, RequestBody)>>,
    response: Option<Box<(ResponseHead, ResponseBody)>>,
    chunk: Option<Chunk>,
}

/// A handler's view of one phase.
#[derive(Debug)]
pub struct Context {
    exchange: Box<Exchange>,
    call: Call,
    decision: Option<Decision>,
    new_state: Option<Bytes>,
    originals: Originals,
    ops: Option<Vec<Op>>,
    streams: bool,
}

impl Context {
    /// A context over an exchange that comes back from [`Context::finish`] with the mutations in it.
    pub fn local(exchange: Box<Exchange>, call: Call) -> Context {
        Context {
            exchange,
            call,
            decision: None,
            new_state: None,
            originals: Originals::default(),
            ops: None,
            streams: false,
        }
    }

    /// A context over a copy of the exchange: the mutations come back as operations.
    pub fn recording(exchange: Box<Exchange>, call: Call) -> Context {
        Context { ops: Some(Vec::new()), ..Context::local(exchange, call) }
    }

    /// One or the other, as the call asks for it.
    pub fn new(exchange: Box<Exchange>, call: Call, recording: bool) -> Context {
        if recording { Context::recording(exchange, call) } else { Context::local(exchange, call) }
    }

    /// What the handler reads.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Phase, payload, state and attempt of this call.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The session's state as this handler sees it: its own write, else what the call brought.
    pub fn state(&self) -> &Bytes {
        self.new_state.as_ref().unwrap_or(&self.call.state)
    }

    /// Replaces the session's state (a MessagePack map).
    pub fn set_state(&mut self, state: Bytes) {
        self.new_state = Some(state);
    }

    /// The decision so far.
    pub fn decision(&self) -> Option<Decision> {
        self.decision
    }

    /// Whether the handler is called per chunk of the response body.
    pub fn is_streaming(&self) -> bool {
        self.exchange.chunk.is_some()
    }

    /// Hands a handler the request body that it asked for during its call. The body stays read whatever becomes
    /// of the call, since the connection has it no more.
    pub fn supply_request_body(&mut self, body: Bytes) {
        let kept = self.originals.request.as_mut().map(|kept| &mut kept.1);
        for place in kept.into_iter().chain([&mut self.exchange.request_body]) {
            if *place == RequestBody::Unread {
                *place = RequestBody::Read(body.clone());
            }
        }
    }

    /// Hands a handler the response body that it asked for during its call. It stays read whatever becomes of the call,
    /// since the service has it no more.
    pub fn supply_response_body(&mut self, body: Bytes) {
        let kept = self.originals.response.as_mut().map(|kept| &mut kept.1);
        for place in kept.into_iter().chain([&mut self.exchange.response_body]) {
            if *place == ResponseBody::Streaming {
                *place = ResponseBody::Read(body.clone());
            }
        }
    }

    /// Begins a response whose body the handler writes from now on: an `end` that takes effect at once. What comes back
    /// is what [`Context::finish`] would give; the handler goes on with a copy that it can read and not change.
    ///
    /// # Errors
    /// Outside `request_filter`, and after a decision.
    pub fn begin_stream(&mut self) -> Result<Finished, StreamError> {
        let phase = self.call.phase;
        if phase != Phase::RequestFilter {
            let why =
                "the service has answered already; a response_body_filter with stream=True sets ctx.chunk";
            return Err(OpError::Phase { what: "streaming a response", phase, why }.into());
        }
        self.decide(Decision::End)?;
        self.streams = true;
        // The stream takes the place of a body that was set before, and nobody is there to get the request's.
        let is_body = |op: &Op| matches!(op, Op::SetRequestBody(_) | Op::SetResponseBody(_));
        if let Some(ops) = &mut self.ops {
            ops.retain(|op| !is_body(op));
        }
        self.exchange.response_body = ResponseBody::Streaming;
        if let Some(kept) = self.originals.request.take() {
            self.exchange.request_body = kept.1;
        }
        self.originals = Originals::default();
        let copy = self.exchange.clone();
        Ok(Finished {
            exchange: std::mem::replace(&mut self.exchange, copy),
            outcome: Outcome::End,
            ops: self.ops.as_mut().map(std::mem::take).unwrap_or_default(),
            state: self.new_state.clone(),
        })
    }

    /// Whether the response has begun, so that nothing of it can be changed or discarded any more.
    pub fn has_begun(&self) -> bool {
        self.streams
    }

    /// Makes one mutation.
    pub fn write(&mut self, op: Op) -> Result<(), OpError> {
        if self.streams {
            let (what, why) = ("changing request or response", "the stream has begun, and its head is sent");
            return Err(OpError::Phase { what, phase: self.call.phase, why });
        }
        op.check_phase(self.call.phase, self.is_streaming())?;
        Op::check_room(std::slice::from_ref(&op), &self.exchange)?;
        match &mut self.ops {
            Some(ops) => ops.push(op.clone()),
            None => self.keep_original(&op),
        }
        op.apply(&mut self.exchange);
        Ok(())
    }

    fn keep_original(&mut self, op: &Op) {
        let (exchange, kept) = (&self.exchange, &mut self.originals);
        if matches!(op, Op::SetChunk(_)) {
            if kept.chunk.is_none() {
                kept.chunk.clone_from(&exchange.chunk);
            }
        } else if op.is_request() {
            kept.request
                .get_or_insert_with(|| Box::new((exchange.request.clone(), exchange.request_body.clone())));
        } else {
            kept.response
                .get_or_insert_with(|| Box::new((exchange.response.clone(), exchange.response_body.clone())));
        }
    }

    /// Takes the handler's decision. The first one wins; a second one is an error that a handler which forgot
    /// its `return` does not survive, so that an `end` never turns into a `next`.
    pub fn decide(&mut self, decision: Decision) -> Result<(), DecisionError> {
        match self.decision {
            None => {
                self.decision = Some(decision);
                Ok(())
            }
            Some(first) => Err(DecisionError(first)),
        }
    }

    /// Closes the call: `Ok` when the handler returned, `Err` when it raised, timed out or was lost.
    ///
    /// Mutations are kept only if the handler returned and had decided (in `request_filter`; elsewhere a plain
    /// return means next). A response drafted in `request_filter` is sent by `end` only: `next` drops it, since
    /// the service's own response takes its place.
    pub fn finish(mut self, returned: Result<(), Failure>) -> Finished {
        let outcome = match (returned, self.decision) {
            (Err(failure), _) => Outcome::Failed(failure),
            (Ok(()), Some(Decision::Next)) => Outcome::Next,
            (Ok(()), Some(Decision::End)) => Outcome::End,
            (Ok(()), None) if self.call.phase == Phase::RequestFilter => {
                const WHY: &str = "the handler returned without ctx.next() or ctx.end()";
                Outcome::Failed(Failure::new(FailureKind::Undecided, WHY))
            }
            (Ok(()), None) => Outcome::Next,
        };
        match outcome {
            Outcome::Failed(_) => self.discard(),
            Outcome::Next if self.call.phase == Phase::RequestFilter => self.discard_response(),
            _ => {}
        }
        Finished {
            exchange: self.exchange,
            outcome,
            ops: self.ops.unwrap_or_default(),
            state: self.new_state,
        }
    }

    fn discard_response(&mut self) {
        if let Some(kept) = self.originals.response.take() {
            (self.exchange.response, self.exchange.response_body) = *kept;
        }
        if let Some(ops) = &mut self.ops {
            ops.retain(Op::is_request);
        }
    }

    fn discard(&mut self) {
        self.discard_response();
        let kept = std::mem::take(&mut self.originals);
        if let Some(kept) = kept.request {
            (self.exchange.request, self.exchange.request_body) = *kept;
        }
        if kept.chunk.is_some() {
            self.exchange.chunk = kept.chunk;
        }
        if let Some(ops) = &mut self.ops {
            ops.clear();
        }
        self.new_state = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{RequestFacts, RequestId, Scheme, TargetPart};
    use crate::params::Params;
    use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

    fn exchange() -> Box<Exchange> {
        let facts = RequestFacts {
            id: RequestId([7; 16]),
            scheme: Scheme::Http,
            host: "example.com".parse().expect("authority"),
            client_ip: [127, 0, 0, 1].into(),
            received_at: std::time::SystemTime::UNIX_EPOCH,
            params: Params::default(),
        };
        let request = RequestHead {
            method: Method::GET,
            path: TargetPart::root(),
            query: None,
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
        };
        Box::new(Exchange::new(facts, request))
    }

    fn call(phase: Phase) -> Call {
        Call { phase, payload: Bytes::new(), state: Bytes::new(), attempt: 1 }
    }

    fn header(name: &'static str) -> Op {
        Op::SetRequestHeader(HeaderName::from_static(name), HeaderValue::from_static("1"))
    }

    fn raised() -> Failure {
        Failure::new(FailureKind::Raised, "boom")
    }

    #[test]
    fn a_raise_after_next_discards_everything() {
        let mut ctx = Context::local(exchange(), call(Phase::RequestFilter));
        ctx.write(header("x-a")).expect("write");
        ctx.write(Op::SetRequestBody(Bytes::from_static(b"new"))).expect("write");
        ctx.write(Op::status(403).expect("status")).expect("write");
        ctx.set_state(Bytes::from_static(b"\x80"));
        assert_eq!(ctx.exchange().request.headers["x-a"], "1");
        ctx.decide(Decision::Next).expect("first decision");
        let done = ctx.finish(Err(raised()));
        assert_eq!(done.outcome, Outcome::Failed(raised()));
        assert!(done.exchange.request.headers.is_empty());
        assert_eq!(done.exchange.request_body, RequestBody::Unread);
        assert_eq!(done.exchange.response.status, StatusCode::OK);
        assert_eq!(done.state, None);
    }

    #[test]
    fn no_decision_fails_in_request_filter_and_means_next_elsewhere() {
        let done = Context::local(exchange(), call(Phase::RequestFilter)).finish(Ok(()));
        assert!(matches!(done.outcome, Outcome::Failed(f) if f.kind == FailureKind::Undecided));
        for phase in [Phase::ResponseFilter, Phase::ResponseBodyFilter, Phase::Logging] {
            assert_eq!(Context::local(exchange(), call(phase)).finish(Ok(())).outcome, Outcome::Next);
        }
    }

    #[test]
    fn the_first_decision_wins() {
        let mut ctx = Context::local(exchange(), call(Phase::RequestFilter));
        ctx.decide(Decision::End).expect("first decision");
        assert_eq!(ctx.decide(Decision::Next), Err(DecisionError(Decision::End)));
        assert_eq!(ctx.finish(Ok(())).outcome, Outcome::End);
    }

    #[test]
    fn a_response_drafted_before_next_is_dropped_and_kept_by_end() {
        for (decision, status) in [(Decision::Next, StatusCode::OK), (Decision::End, StatusCode::FORBIDDEN)] {
            let mut local = Context::local(exchange(), call(Phase::RequestFilter));
            let mut recording = Context::recording(exchange(), call(Phase::RequestFilter));
            for ctx in [&mut local, &mut recording] {
                ctx.write(header("x-a")).expect("write");
                ctx.write(Op::SetStatus(StatusCode::FORBIDDEN)).expect("write");
                ctx.decide(decision).expect("first decision");
            }
            assert_eq!(local.finish(Ok(())).exchange.response.status, status);
            let mut elsewhere = exchange();
            recording.finish(Ok(())).ops.into_iter().for_each(|op| op.apply(&mut elsewhere));
            assert_eq!(elsewhere.response.status, status);
            assert_eq!(elsewhere.request.headers["x-a"], "1");
        }
    }

    #[test]
    fn a_body_read_for_a_failed_call_stays_read() {
        let mut ctx = Context::local(exchange(), call(Phase::RequestFilter));
        ctx.write(header("x-a")).expect("write");
        ctx.supply_request_body(Bytes::from_static(b"sent"));
        ctx.write(Op::SetRequestBody(Bytes::from_static(b"new"))).expect("write");
        let done = ctx.finish(Err(raised()));
        assert_eq!(done.exchange.request_body, RequestBody::Read(Bytes::from_static(b"sent")));
    }

    #[test]
    fn a_stream_is_an_end_that_takes_effect_at_once() {
        for recording in [false, true] {
            let new = if recording { Context::recording } else { Context::local };
            let mut ctx = new(exchange(), call(Phase::RequestFilter));
            ctx.write(Op::status(201).expect("status")).expect("write");
            ctx.write(Op::SetResponseBody(Bytes::from_static(b"draft"))).expect("write");
            ctx.write(Op::SetRequestBody(Bytes::from_static(b"new"))).expect("write");
            ctx.set_state(Bytes::from_static(b"\x80"));
            let begun = ctx.begin_stream().expect("a request_filter may");
            assert_eq!((begun.outcome, begun.state), (Outcome::End, Some(Bytes::from_static(b"\x80"))));
            assert_eq!(begun.exchange.response.status, StatusCode::CREATED);
            assert_eq!(begun.exchange.response_body, ResponseBody::Streaming);
            assert_eq!(begun.ops.len(), usize::from(recording), "the status, and no body");
            assert!(ctx.write(header("x-a")).is_err(), "the head is sent");
            assert_eq!(ctx.exchange().response.status, StatusCode::CREATED, "reads go on");
            assert_eq!(ctx.decide(Decision::End), Err(DecisionError(Decision::End)));
            assert!(ctx.begin_stream().is_err());
        }
        let mut late = Context::local(exchange(), call(Phase::ResponseFilter));
        assert!(matches!(late.begin_stream(), Err(StreamError::Phase(_))));
    }

    #[test]
    fn a_head_does_not_grow_without_bound() {
        let mut ctx = Context::local(exchange(), call(Phase::RequestFilter));
        let line = || Op::AddRequestHeader(HeaderName::from_static("x"), HeaderValue::from_static("1"));
        for _ in 0..crate::op::MAX_FIELDS {
            ctx.write(line()).expect("there is room");
        }
        assert!(matches!(ctx.write(line()), Err(OpError::Value { .. })));
    }

    #[test]
    fn phases_refuse_what_comes_too_late() {
        let mut late = Context::local(exchange(), call(Phase::ResponseFilter));
        assert!(matches!(late.write(header("x-a")), Err(OpError::Phase { .. })));
        let mut logging = Context::local(exchange(), call(Phase::Logging));
        assert!(matches!(logging.write(Op::SetStatus(StatusCode::OK)), Err(OpError::Phase { .. })));
        let mut streaming = exchange();
        streaming.chunk = Some(Chunk { data: Bytes::from_static(b"a"), end_of_stream: false });
        let mut by_chunk = Context::local(streaming, call(Phase::ResponseBodyFilter));
        assert!(by_chunk.write(Op::SetStatus(StatusCode::OK)).is_err());
        by_chunk.write(Op::SetChunk(Bytes::from_static(b"b"))).expect("write");
        let chunk = by_chunk.finish(Ok(())).exchange.chunk.expect("chunk");
        assert_eq!(chunk.data, "b");
    }
}
