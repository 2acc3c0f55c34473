//! What a library may ask, and the answers.

use super::headers::write_fields;
use super::mapped::Mapped;
use super::misuse::Kind;
use super::payload;
use super::session::{Running, SessionState};
use bytes::Bytes;
use http::HeaderMap;
use nylon_abi::{FfiBuffer, method};
use nylon_core::{Context, Phase, RequestBody, ResponseBody, joined};
use std::io::Write as _;
use std::time::UNIX_EPOCH;

/// Where an answer's bytes are.
pub(super) enum Answer {
    Nothing,
    /// In the scratch.
    Text,
    /// A body, which is not copied.
    Body(Bytes),
}

impl Answer {
    pub(super) fn bytes<'a>(&'a self, scratch: &'a Scratch) -> &'a [u8] {
        match self {
            Answer::Nothing => &[],
            Answer::Text => &scratch.text,
            Answer::Body(bytes) => bytes,
        }
    }
}

/// Room for one answer, kept by its thread from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    text: Vec<u8>,
}

/// What is kept of a large answer's room.
const KEPT: usize = 64 * 1024;

impl Scratch {
    /// The room as it is kept, unless it is too large for that.
    pub(super) fn emptied(mut self: Box<Self>) -> Option<Box<Scratch>> {
        self.text.clear();
        (self.text.capacity() <= KEPT).then_some(self)
    }
}

/// Whether the number is a question.
pub(super) fn is_read(number: u32) -> bool {
    matches!(number, method::GET_PAYLOAD | 107..=112 | 114..=115 | 200..=215)
}

/// The answer to a question, unless it has to wait for a body.
pub(super) fn read(
    mapped: &Mapped,
    state: &mut SessionState,
    message: &FfiBuffer,
    payload: &[u8],
    scratch: &mut Scratch,
) -> Option<Answer> {
    let Some(running) = &mut state.running else {
        // One that goes on writing its response reads from a copy.
        return Some(match state.writer.as_ref().and_then(|writer| writer.context.as_ref()) {
            Some(context) => look(context, message.method, payload, scratch),
            None => {
                mapped.misuse.count(Kind::OutsidePhase, message.sid, message.method);
                Answer::Nothing
            }
        });
    };
    if waits(running, message.method) {
        let awaited = match message.method {
            method::READ_REQUEST_FULL_BODY => &mut running.awaited.request,
            _ => &mut running.awaited.response,
        };
        *awaited += 1;
        return None;
    }
    Some(look(&running.context, message.method, payload, scratch))
}

/// Whether a body has to be fetched first.
fn waits(running: &Running, number: u32) -> bool {
    let (context, over) = (&running.context, running.is_over());
    let (phase, exchange) = (context.call().phase, context.exchange());
    match number {
        method::READ_REQUEST_FULL_BODY => {
            !over && phase == Phase::RequestFilter && exchange.request_body == RequestBody::Unread
        }
        method::READ_RESPONSE_FULL_BODY => {
            !over && running.on_demand && exchange.response_body == ResponseBody::Streaming
        }
        _ => false,
    }
}

fn look(context: &Context, number: u32, payload: &[u8], scratch: &mut Scratch) -> Answer {
    let exchange = context.exchange();
    let (facts, request, response) = (&exchange.facts, &exchange.request, &exchange.response);
    let text = &mut scratch.text;
    text.clear();
    match number {
        method::GET_PAYLOAD => payload::write_json(&context.call().payload, text),
        method::READ_RESPONSE_FULL_BODY => return body(exchange.response_body.bytes()),
        method::READ_RESPONSE_STATUS => text.extend_from_slice(response.status.as_str().as_bytes()),
        method::READ_RESPONSE_BYTES => number_into(text, exchange.response_bytes(context.call().phase)),
        method::READ_RESPONSE_HEADERS => write_fields(text, &response.headers),
        method::READ_RESPONSE_HEADER => field(text, &response.headers, payload),
        method::READ_RESPONSE_DURATION => {
            if let Some(duration) = exchange.sent.duration {
                number_into(text, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
            }
        }
        method::READ_RESPONSE_ERROR => {
            text.extend_from_slice(exchange.sent.error.as_deref().unwrap_or_default().as_bytes());
        }
        method::READ_RESPONSE_CHUNK => {
            if let Some(chunk) = &exchange.chunk {
                text.push(u8::from(chunk.end_of_stream));
                text.extend_from_slice(&chunk.data);
            }
        }
        method::READ_REQUEST_FULL_BODY => return body(exchange.request_body.bytes()),
        method::READ_REQUEST_HEADER => field(text, &request.headers, payload),
        method::READ_REQUEST_HEADERS => write_fields(text, &request.headers),
        method::READ_REQUEST_URL => text.extend_from_slice(exchange.url().as_bytes()),
        method::READ_REQUEST_PATH => text.extend_from_slice(request.path.as_bytes()),
        method::READ_REQUEST_QUERY => {
            text.extend_from_slice(request.query.as_ref().map_or(&[], |query| query.as_bytes()));
        }
        method::READ_REQUEST_PARAMS => {
            let params = facts.params.iter().map(|(name, value)| (name.to_owned(), value.into()));
            let object = serde_json::Value::Object(params.collect());
            let _ = write!(text, "{object}");
        }
        method::READ_REQUEST_HOST => text.extend_from_slice(facts.host.as_str().as_bytes()),
        method::READ_REQUEST_CLIENT_IP => {
            let _ = write!(text, "{}", facts.client_ip);
        }
        method::READ_REQUEST_METHOD => text.extend_from_slice(request.method.as_str().as_bytes()),
        method::READ_REQUEST_BYTES => number_into(text, exchange.request_bytes()),
        method::READ_REQUEST_TIMESTAMP => {
            let since = facts.received_at.duration_since(UNIX_EPOCH).unwrap_or_default();
            number_into(text, u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        }
        method::READ_REQUEST_ID => {
            let _ = write!(text, "{}", facts.id);
        }
        method::READ_REQUEST_SCHEME => text.extend_from_slice(facts.scheme.name().as_bytes()),
        method::READ_REQUEST_HTTP_VERSION => text.extend_from_slice(request.version_name().as_bytes()),
        method::READ_ATTEMPT => number_into(text, u64::from(context.call().attempt)),
        _ => {}
    }
    Answer::Text
}

fn body(bytes: Option<&Bytes>) -> Answer {
    bytes.map_or(Answer::Nothing, |bytes| Answer::Body(bytes.clone()))
}

fn number_into(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn field(text: &mut Vec<u8>, headers: &HeaderMap, name: &[u8]) {
    if let Ok(name) = std::str::from_utf8(name) {
        joined(headers, name, |value| text.extend_from_slice(value));
    }
}
