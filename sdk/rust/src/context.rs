//! What a handler sees of one phase.

use crate::answers::{header_value, headers, number, parse_json, text};
use crate::deferred::{Deferred, Handoff};
use crate::error::{Error, ErrorKind, Result};
use crate::open::OpenSession;
use crate::phase::Phase;
use crate::request::Request;
use crate::response::Response;
use http::{Extensions, HeaderValue};
use nylon_abi::method;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// What a handler decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Next,
    /// Stop here and send the response.
    End,
}

/// Part of a response's body, in a `response_body_filter` by chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes.
    pub data: Vec<u8>,
    /// Whether this is the last one.
    pub end_of_stream: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamState {
    None,
    Begun,
    Ended,
}

/// What a handler sees of one phase of one session.
///
/// Everything that asks or tells the gateway something returns a [`Result`], since the phase may be over by then:
/// `?` is all that a handler needs. Writes are read back at once; they count when the handler has decided and returned.
pub struct Context {
    pub(crate) session: Arc<OpenSession>,
    phase: Phase,
    decision: Cell<Option<Decision>>,
    pub(crate) stream: Cell<StreamState>,
    /// The handler has chosen a content type itself.
    pub(crate) chose_type: Cell<bool>,
    /// The state as it is now, once somebody has asked for it.
    state: Option<Extensions>,
    /// Set where the rest of the phase belongs to a [`Deferred`]: who is the second to finish sends the result.
    handoff: Option<Arc<Handoff>>,
    /// This is the context of a [`Deferred`], which has a thread of its own to wait on.
    is_deferred: bool,
}

impl Context {
    pub(crate) fn new(session: Arc<OpenSession>, phase: Phase) -> Context {
        Context {
            session,
            phase,
            decision: Cell::new(None),
            stream: Cell::new(StreamState::None),
            chose_type: Cell::new(false),
            state: None,
            handoff: None,
            is_deferred: false,
        }
    }

    /// The request.
    pub fn request(&self) -> Request<'_> {
        Request::new(self)
    }

    /// The response: a draft in `request_filter`, the service's own later.
    pub fn response(&self) -> Response<'_> {
        Response::new(self)
    }

    /// The middleware's payload as the configuration gives it.
    ///
    /// ```
    /// # use nylon_plugin::{Context, Result};
    /// #[derive(serde::Deserialize)]
    /// struct Limit { bytes: u64 }
    ///
    /// fn check(ctx: &mut Context) -> Result {
    ///     let limit: Limit = ctx.payload()?;
    ///     if ctx.request().bytes()? > limit.bytes {
    ///         ctx.response().set_status(413)?;
    ///         return ctx.end();
    ///     }
    ///     ctx.next()
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Body`] where it is of another shape; where the configuration gives none it is JSON's `null`.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        // Not made into a `T` where the answer is taken: no code of the plugin's author runs inside the gateway's.
        let payload = self.ask(method::GET_PAYLOAD, &[], <[u8]>::to_vec)?;
        parse_json("the payload", if payload.is_empty() { b"null" } else { &payload })
    }

    /// What this session keeps from phase to phase: one value of each type, its default at first.
    ///
    /// It is like any change that a handler makes: where the handler fails, it is as it was before. (A copy is made in
    /// each phase that asks for it.)
    pub fn state<T: Clone + Default + Send + Sync + 'static>(&mut self) -> &mut T {
        self.state
            .get_or_insert_with(|| self.session.load_state().unwrap_or_default())
            .get_or_insert_default()
    }

    /// Goes on: to the next middleware, then to the service.
    ///
    /// # Errors
    /// [`ErrorKind::Decided`] after a decision: the first one stays, and a handler that returns this error has failed.
    pub fn next(&self) -> Result {
        self.decide(Decision::Next)
    }

    /// Stops here: [`Context::response`] is sent as it is when the handler returns.
    ///
    /// # Errors
    /// [`ErrorKind::Decided`] after a decision: the first one stays, and a handler that returns this error has failed.
    pub fn end(&self) -> Result {
        self.decide(Decision::End)
    }

    /// The decision so far.
    pub fn decision(&self) -> Option<Decision> {
        self.decision.get()
    }

    /// The part of the body that a `response_body_filter` by chunk is called for.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] elsewhere.
    pub fn chunk(&self) -> Result<Chunk> {
        self.check_chunk("reading a chunk")?;
        self.ask(method::READ_RESPONSE_CHUNK, &[], |answer| {
            let (last, data) = answer.split_first().unwrap_or((&1, &[]));
            Chunk { data: data.to_vec(), end_of_stream: *last == 1 }
        })
    }

    /// Replaces that part.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] elsewhere.
    pub fn set_chunk(&self, data: impl AsRef<[u8]>) -> Result {
        self.check_chunk("setting a chunk")?;
        self.tell(method::SET_RESPONSE_CHUNK, data.as_ref())
    }

    /// Puts the rest of the phase off: the handler returns, so that its thread goes on with other requests, and the
    /// [`Deferred`] finishes the phase from any other thread, within the phase's `timeout_ms`.
    ///
    /// # Errors
    /// [`ErrorKind::Decided`] after a decision.
    pub fn defer(&mut self) -> Result<Deferred> {
        self.check_own()?;
        if let Some(decision) = self.decision.get() {
            return Err(decided(decision));
        }
        let handoff = Arc::<Handoff>::default();
        self.handoff = Some(handoff.clone());
        let mut context = Context::new(self.session.clone(), self.phase);
        context.chose_type.set(self.chose_type.get());
        context.state = self.state.take();
        context.is_deferred = true;
        Ok(Deferred::new(context, handoff))
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The entry that this is a session of.
    pub fn entry(&self) -> &str {
        &self.session.entry().name
    }

    /// The request's id: 32 hexadecimal digits, the same in all logs.
    pub fn request_id(&self) -> Result<String> {
        self.ask(method::READ_REQUEST_ID, &[], text)
    }

    /// Which try of this call it is, from 1. Only calls of plugins in processes of their own are tried again.
    pub fn attempt(&self) -> Result<u32> {
        Ok(self.ask(method::READ_ATTEMPT, &[], number)?.unwrap_or(1))
    }

    /// Whether the phase is over for the gateway: its time was up, or the client has left. Of interest to a
    /// [`Deferred`] that has more to do.
    pub fn is_closed(&self) -> bool {
        self.session.link.is_closed()
    }

    // ── what request and response are made of ──

    pub(crate) fn ask<T>(&self, method: u32, payload: &[u8], take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.check_own()?;
        self.session.link.ask(method, payload, self.is_deferred, take)
    }

    /// Asks for one header by `one`; an empty answer is either an empty value or none, which the list, `all`, tells apart.
    pub(crate) fn ask_header(&self, one: u32, all: u32, name: &str) -> Result<Option<HeaderValue>> {
        let value = self.ask(one, name.as_bytes(), |value| match value {
            b"" => None,
            value => Some(header_value(value)),
        })?;
        match value {
            Some(value) => value.map(Some),
            None => Ok(self.ask(all, &[], headers)??.remove(name)),
        }
    }

    pub(crate) fn tell(&self, method: u32, payload: &[u8]) -> Result {
        self.check_own()?;
        self.session.link.tell(method, payload)
    }

    /// Whether this may wait for a body that the gateway does not have yet.
    pub(crate) fn may_wait(&self) -> bool {
        self.is_deferred
    }

    pub(crate) fn check_request_change(&self) -> Result {
        self.check_stream()?;
        match self.phase {
            Phase::RequestFilter => Ok(()),
            _ => Err(self.phase_error("changing the request", "the service has been called already")),
        }
    }

    pub(crate) fn check_response_change(&self) -> Result {
        self.check_stream()?;
        const WHAT: &str = "changing the response";
        match self.phase {
            Phase::Logging => Err(self.phase_error(WHAT, "the client has it already")),
            Phase::ResponseBodyFilter if self.session.entry().wants.by_chunk => {
                Err(self.phase_error(WHAT, "its head is sent already; by chunk, use set_chunk()"))
            }
            _ => Ok(()),
        }
    }

    /// A stream is an `end`.
    pub(crate) fn begin_stream(&self) -> Result {
        if self.phase != Phase::RequestFilter {
            let why = "the service has answered already; a response_body_filter by chunk sets its chunk";
            return Err(self.phase_error("streaming a response", why));
        }
        self.decide(Decision::End)?;
        if let Some(state) = &self.state {
            // The response phases begin while the handler still writes.
            self.session.store_state(state.clone());
        }
        self.stream.set(StreamState::Begun);
        self.tell(method::SET_RESPONSE_STREAM_HEADER, &[])
    }

    fn decide(&self, decision: Decision) -> Result {
        self.check_own()?;
        self.session.link.check_open()?;
        match self.decision.get() {
            Some(first) => Err(decided(first)),
            None => {
                self.decision.set(Some(decision));
                Ok(())
            }
        }
    }

    /// Not any more, where a [`Deferred`] has taken over.
    fn check_own(&self) -> Result {
        match &self.handoff {
            Some(_) => Err(Error::new(ErrorKind::Closed, "the phase was deferred: go on with the Deferred")),
            None => Ok(()),
        }
    }

    fn check_stream(&self) -> Result {
        match self.stream.get() {
            StreamState::None => Ok(()),
            _ => {
                let why = "the stream has begun, and its head is sent";
                Err(self.phase_error("changing request or response", why))
            }
        }
    }

    fn check_chunk(&self, what: &str) -> Result {
        if self.phase == Phase::ResponseBodyFilter && self.session.entry().wants.by_chunk {
            return Ok(());
        }
        Err(self.phase_error(what, "only a response_body_filter by chunk has chunks"))
    }

    fn phase_error(&self, what: &str, why: &str) -> Error {
        Error::new(ErrorKind::Phase, format!("{what} is not possible in {}: {why}", self.phase))
    }

    // ── the end ──

    /// The handler has returned.
    pub(crate) fn returned(mut self, done: Result) {
        match self.handoff.take() {
            None => self.finish(done),
            Some(handoff) => handoff.returned(self, done),
        }
    }

    /// Says what the phase came to.
    pub(crate) fn finish(mut self, done: Result) {
        let stream = self.stream.get();
        let outcome = match (done, self.decision.get()) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(()), _) if stream == StreamState::Begun => {
                Err("the handler returned without the stream's end()".to_owned())
            }
            (Ok(()), None) if self.phase == Phase::RequestFilter => {
                Err("the handler returned without ctx.next() or ctx.end()".to_owned())
            }
            (Ok(()), decision) => Ok(decision.unwrap_or(Decision::Next)),
        };
        if stream == StreamState::Ended {
            // The end of the stream was the end of the phase.
            if let Err(why) = outcome {
                eprintln!(
                    "nylon-plugin: {} failed in {} after its stream's end: {why}",
                    self.entry(),
                    self.phase
                );
            }
            return;
        }
        let link = &self.session.link;
        let told = match outcome {
            Ok(decision) => {
                if let Some(state) = self.state.take() {
                    self.session.store_state(state);
                }
                link.tell(if decision == Decision::Next { method::NEXT } else { method::END }, &[])
            }
            Err(why) => link.tell(method::FAIL, why.as_bytes()),
        };
        // Refused only where the gateway has closed the session: then nobody waits for it.
        drop(told);
    }
}

fn decided(first: Decision) -> Error {
    let text = format!(
        "this handler has already decided {first:?}: the first decision wins, so return after ctx.next() or ctx.end() \
         (a stream is an end)"
    );
    Error::new(ErrorKind::Decided, text)
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("entry", &self.entry())
            .field("phase", &self.phase)
            .field("decision", &self.decision.get())
            .finish_non_exhaustive()
    }
}
