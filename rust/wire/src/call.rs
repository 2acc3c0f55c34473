//! Gateway to worker: run one phase. Everything that a handler usually reads travels with the call, so that a
//! remote phase costs one request and one reply. Time is given as what is left of it, in milliseconds: nothing
//! depends on synchronised clocks.

use crate::envelope::{CallId, Kind, SessionId, Text, read_frame, required};
use crate::error::WireError;
use crate::limits::{MAX_FRAME, MAX_NAME, MAX_PAYLOAD, MAX_STATE, MAX_TRACEPARENT};
use crate::reader::Reader;
use crate::section;
use crate::writer::Writer;
use bytes::Bytes;
use nylon_core::{Call, Context, Exchange, Phase, RequestBody, ResponseBody, ResponseHead, Sent};
use rmp::Marker;
use std::time::Duration;

/// A body in a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BodyPart {
    /// Not read by the gateway: a request body that nobody asked for, a response body that streams past.
    #[default]
    Absent,
    /// Here it is.
    Bytes(Bytes),
    /// The gateway has it, and sends it when it is asked for.
    Held {
        /// Its size in bytes.
        size: u64,
    },
}

/// What a call says beside [`Call`] and [`Exchange`].
#[derive(Clone, Copy, Debug)]
pub struct CallMeta<'a> {
    /// The call.
    pub id: CallId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The plugin's name in the gateway's configuration.
    pub plugin: &'a str,
    /// The entry.
    pub entry: &'a str,
    /// The time left for a result.
    pub remaining: Duration,
    /// The worker must claim the call before it runs it.
    pub claim: bool,
    /// The W3C trace context, where there is one.
    pub traceparent: Option<&'a [u8]>,
    /// A request body that the gateway has travels along up to this size.
    pub inline_request_body: usize,
    /// A response body that the gateway has travels along up to this size.
    pub inline_response_body: usize,
}

/// Appends a call to `out`; on an error `out` is as it was.
pub fn encode_call(
    out: &mut Vec<u8>,
    meta: &CallMeta<'_>,
    call: &Call,
    exchange: &Exchange,
) -> Result<(), WireError> {
    check(meta.plugin.len(), MAX_NAME, "the plugin's name")?;
    check(meta.entry.len(), MAX_NAME, "the entry's name")?;
    check(call.payload.len(), MAX_PAYLOAD, "the payload")?;
    check(call.state.len(), MAX_STATE, "ctx.state")?;
    let (mut writer, mut map) = Writer::frame(out, Kind::Call);
    writer.key(&mut map, "id").bin(&meta.id.0);
    writer.key(&mut map, "s").bin(&meta.session.0);
    writer.key(&mut map, "a").uint(call.attempt.into());
    writer.key(&mut map, "pl").text(meta.plugin);
    writer.key(&mut map, "e").text(meta.entry);
    writer.key(&mut map, "p").uint(call.phase as u64);
    let remaining = u64::try_from(meta.remaining.as_millis()).unwrap_or(u64::MAX);
    writer.key(&mut map, "ms").uint(remaining);
    if meta.claim {
        writer.key(&mut map, "cl").boolean(true);
    }
    if let Some(traceparent) = meta.traceparent.filter(|text| text.len() <= MAX_TRACEPARENT) {
        writer.key(&mut map, "tp").bin(traceparent);
    }
    if !call.payload.is_empty() {
        writer.key(&mut map, "py").bin(&call.payload);
    }
    if !call.state.is_empty() {
        writer.key(&mut map, "st").bin(&call.state);
    }
    section::write_facts(writer.key(&mut map, "f"), &exchange.facts);
    if let Err(why) = section::write_request(writer.key(&mut map, "q"), &exchange.request) {
        return Err(writer.give_up(why));
    }
    if let Some(body) = exchange.request_body.bytes() {
        write_body(writer.key(&mut map, "qb"), body, meta.inline_request_body);
    }
    let response = &exchange.response;
    // In request_filter the response is an untouched draft as a rule.
    let telling =
        call.phase != Phase::RequestFilter || response.status != 200 || !response.headers.is_empty();
    if telling && let Err(why) = section::write_response(writer.key(&mut map, "r"), response) {
        return Err(writer.give_up(why));
    }
    if let Some(body) = exchange.response_body.bytes() {
        write_body(writer.key(&mut map, "rb"), body, meta.inline_response_body);
    }
    if let Some(chunk) = &exchange.chunk {
        section::write_chunk(writer.key(&mut map, "c"), chunk);
    }
    if call.phase == Phase::Logging {
        section::write_sent(writer.key(&mut map, "sn"), &exchange.sent);
    }
    writer.finish(map)
}

fn check(size: usize, limit: usize, what: &'static str) -> Result<(), WireError> {
    if size <= limit { Ok(()) } else { Err(WireError::TooLarge { what, limit }) }
}

fn write_body(writer: &mut Writer<'_>, body: &Bytes, inline: usize) {
    if body.len() <= inline { writer.bin(body) } else { writer.uint(body.len() as u64) }
}

/// A call as a worker receives it. Its sections are not looked into before [`CallFrame::into_context`], so that
/// a duplicate, or a call that there is no room for, costs next to nothing.
#[derive(Clone, Debug)]
pub struct CallFrame {
    /// The call.
    pub id: CallId,
    /// The session it belongs to.
    pub session: SessionId,
    /// 1 for the first try.
    pub attempt: u32,
    /// The plugin's name in the gateway's configuration.
    pub plugin: Text,
    /// The entry.
    pub entry: Text,
    /// The phase.
    pub phase: Phase,
    /// The time left for a result when the call was sent.
    pub remaining: Duration,
    /// The worker must claim the call before it runs it.
    pub claim: bool,
    /// The W3C trace context, where there is one.
    pub traceparent: Option<Bytes>,
    /// The middleware's payload as MessagePack; empty where there is none.
    pub payload: Bytes,
    /// The session's state as MessagePack; empty where there is none.
    pub state: Bytes,
    /// The request's body.
    pub request_body: BodyPart,
    /// The response's body.
    pub response_body: BodyPart,
    facts: Bytes,
    request: Bytes,
    response: Option<Bytes>,
    chunk: Option<Bytes>,
    sent: Option<Bytes>,
}

impl CallFrame {
    /// Reads a call's envelope and finds its sections.
    pub fn decode(frame: &Bytes) -> Result<CallFrame, WireError> {
        let (mut id, mut session, mut plugin, mut entry, mut phase) = (None, None, None, None, None);
        let (mut attempt, mut remaining, mut claim, mut traceparent) = (1, None, false, None);
        let (mut payload, mut state) = (Bytes::new(), Bytes::new());
        let (mut request_body, mut response_body) = (BodyPart::Absent, BodyPart::Absent);
        let (mut facts, mut request, mut response) = (None, None, None);
        let (mut chunk, mut sent) = (None, None);
        read_frame(frame, Kind::Call, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"s" => session = Some(SessionId(reader.exactly("the session id")?)),
                b"a" => attempt = reader.small("the attempt")?,
                b"pl" => plugin = Some(Text::read(reader, "the plugin's name")?),
                b"e" => entry = Some(Text::read(reader, "the entry's name")?),
                b"p" => {
                    let (what, why) = ("the phase", "it is 1 to 4");
                    let known = Phase::from_number(reader.small(what)?);
                    phase = Some(known.ok_or(WireError::Invalid { what, why })?);
                }
                b"ms" => remaining = Some(Duration::from_millis(reader.uint("the time left")?)),
                b"cl" => claim = reader.boolean("the wish for a claim")?,
                b"tp" => traceparent = Some(reader.shared("the trace context", MAX_TRACEPARENT)?),
                b"py" => payload = reader.shared("the payload", MAX_PAYLOAD)?,
                b"st" => state = reader.shared("ctx.state", MAX_STATE)?,
                b"f" => facts = Some(reader.section()?),
                b"q" => request = Some(reader.section()?),
                b"qb" => request_body = read_body(reader, "the request body")?,
                b"r" => response = Some(reader.section()?),
                b"rb" => response_body = read_body(reader, "the response body")?,
                b"c" => chunk = Some(reader.section()?),
                b"sn" => sent = Some(reader.section()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(CallFrame {
            id: required(id, "call id (id)")?,
            session: required(session, "session id (s)")?,
            attempt,
            plugin: required(plugin, "plugin (pl)")?,
            entry: required(entry, "entry (e)")?,
            phase: required(phase, "phase (p)")?,
            remaining: required(remaining, "time left (ms)")?,
            claim,
            traceparent,
            payload,
            state,
            request_body,
            response_body,
            facts: required(facts, "facts (f)")?,
            request: required(request, "request head (q)")?,
            response,
            chunk,
            sent,
        })
    }

    /// Whether the handler is called per chunk of the response body.
    pub fn is_streaming(&self) -> bool {
        self.chunk.is_some()
    }

    /// What the handler sees: the sections are read and checked here.
    pub fn into_context(self) -> Result<Context, WireError> {
        let (exchange, call) = self.into_parts()?;
        Ok(Context::recording(exchange, call))
    }

    /// What a handler's context is made of: the sections are read and checked here.
    pub fn into_parts(self) -> Result<(Box<Exchange>, Call), WireError> {
        let request_body = match self.request_body {
            BodyPart::Bytes(bytes) => RequestBody::Read(bytes),
            BodyPart::Absent | BodyPart::Held { .. } => RequestBody::Unread,
        };
        let response_body = match self.response_body {
            BodyPart::Bytes(bytes) => ResponseBody::Read(bytes),
            BodyPart::Absent | BodyPart::Held { .. } => ResponseBody::Streaming,
        };
        let exchange = Exchange {
            facts: section::read_facts(&self.facts)?,
            request: section::read_request(&self.request)?,
            request_body,
            response: match &self.response {
                Some(head) => section::read_response(head)?,
                None => ResponseHead::default(),
            },
            response_body,
            chunk: self.chunk.as_ref().map(section::read_chunk).transpose()?,
            sent: match &self.sent {
                Some(sent) => section::read_sent(sent)?,
                None => Sent::default(),
            },
        };
        let call =
            Call { phase: self.phase, payload: self.payload, state: self.state, attempt: self.attempt };
        Ok((Box::new(exchange), call))
    }
}

fn read_body(reader: &mut Reader<'_>, what: &'static str) -> Result<BodyPart, WireError> {
    match reader.peek() {
        Some(Marker::Null) => {
            reader.nil();
            Ok(BodyPart::Absent)
        }
        Some(Marker::Bin8 | Marker::Bin16 | Marker::Bin32) => {
            Ok(BodyPart::Bytes(reader.shared(what, MAX_FRAME)?))
        }
        _ => Ok(BodyPart::Held { size: reader.uint(what)? }),
    }
}
