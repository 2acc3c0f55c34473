//! What a library may do: mutations, as [`Op`]s like those of every host, and the end of a phase.

use super::mapped::Mapped;
use super::misuse::Kind;
use super::session::{Ended, Running, SessionState};
use super::stream::{self, Written};
use bytes::Bytes;
use nylon_abi::fields::decode_field;
use nylon_abi::{FfiBuffer, method, phase};
use nylon_core::{Decision, Failure, FailureKind, Op, OpError};

/// Bytes that are kept of a text for the log.
const MAX_REASON: usize = 4096;

/// Does what a message says. What is not possible ends the phase by a failure, as a raise would. A write to a stream may
/// have to wait for room.
pub(super) fn write(
    mapped: &Mapped,
    state: &mut SessionState,
    message: &FfiBuffer,
    payload: &[u8],
) -> Option<Written> {
    let number = message.method;
    if stream::is_part(number) && state.writer.is_some() {
        return match number {
            method::SET_RESPONSE_STREAM_END => state.writer.take().map(|writer| writer.end()),
            _ => state.writer.as_ref().map(|writer| writer.data(payload)),
        };
    }
    // A later phase may be running beside the stream: the message says whose failure it is.
    if number == method::FAIL
        && message.phase == phase::REQUEST_FILTER
        && let Some(writer) = &state.writer
    {
        writer.outlet.end(Err(reason(payload)));
        return None;
    }
    let Some(running) = &mut state.running else {
        match &mut state.writer {
            Some(writer) if number == method::FAIL => writer.outlet.end(Err(reason(payload))),
            _ => mapped.misuse.count(Kind::OutsidePhase, message.sid, number),
        }
        return None;
    };
    if let (Some(Ended::Begun(..)), method::FAIL, Some(writer)) =
        (&running.ended, number, state.writer.as_ref())
    {
        // The pipeline has not taken the stream yet.
        writer.outlet.end(Err(reason(payload)));
        return None;
    }
    if running.is_over() {
        let decides = matches!(number, method::NEXT | method::END | method::FAIL);
        // After a failure nobody told the library that its phase is over.
        if !matches!(running.ended, Some(Ended::Failed(_))) {
            let kind = if decides { Kind::SecondDecision } else { Kind::OutsidePhase };
            mapped.misuse.count(kind, message.sid, number);
        }
        return None;
    }
    match number {
        method::NEXT => decide(running, Decision::Next),
        method::END => decide(running, Decision::End),
        method::FAIL => running.fail(reason(payload)),
        method::SET_RESPONSE_STREAM_HEADER => stream::begin(state),
        method::WEBSOCKET_UPGRADE => {
            running.fail(raised("WebSockets are not available to native plugins yet"));
        }
        _ => {
            let written = op(number, payload).and_then(|op| Ok(running.context.write(op)?));
            if let Err(why) = written {
                running.fail(raised(&why.0));
            }
        }
    }
    None
}

fn decide(running: &mut Running, decision: Decision) {
    // It has not decided before: looked at above.
    let first = running.context.decide(decision);
    debug_assert_eq!(first, Ok(()));
}

fn raised(why: &str) -> Failure {
    Failure::new(FailureKind::Raised, why)
}

fn reason(payload: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(MAX_REASON)]);
    raised(if text.is_empty() { "the handler failed and did not say why" } else { &text })
}

/// Why there is no such mutation, for the author of the plugin.
struct Refused(String);

impl From<OpError> for Refused {
    fn from(error: OpError) -> Refused {
        Refused(error.to_string())
    }
}

fn op(number: u32, payload: &[u8]) -> Result<Op, Refused> {
    let body = || Bytes::copy_from_slice(payload);
    let text = |what| {
        std::str::from_utf8(payload).map_err(|_| Refused(format!("{what} is not valid: it is not UTF-8")))
    };
    let field = || {
        let (name, value) = decode_field(payload)
            .map_err(|why| Refused(format!("the payload of method {number} is no HeaderKeyValue: {why}")))?;
        Ok::<_, Refused>((Op::header_name(name)?, Op::header_value(Bytes::copy_from_slice(value))?))
    };
    Ok(match number {
        method::SET_RESPONSE_HEADER => field().map(|(name, value)| Op::SetResponseHeader(name, value))?,
        method::ADD_RESPONSE_HEADER => field().map(|(name, value)| Op::AddResponseHeader(name, value))?,
        method::REMOVE_RESPONSE_HEADER => Op::RemoveResponseHeader(Op::header_name(payload)?),
        method::SET_RESPONSE_STATUS => match payload {
            &[high, low] => Op::status(u16::from_be_bytes([high, low]))?,
            _ => return Err(Refused(format!("a status is two bytes, not {}", payload.len()))),
        },
        method::SET_RESPONSE_FULL_BODY => Op::SetResponseBody(body()),
        method::SET_RESPONSE_CHUNK => Op::SetChunk(body()),
        method::SET_REQUEST_METHOD => Op::method(text("the method")?)?,
        method::SET_REQUEST_PATH => Op::path(text("the path")?)?,
        method::SET_REQUEST_QUERY => Op::query(text("the query")?)?,
        method::SET_REQUEST_HEADER => field().map(|(name, value)| Op::SetRequestHeader(name, value))?,
        method::ADD_REQUEST_HEADER => field().map(|(name, value)| Op::AddRequestHeader(name, value))?,
        method::REMOVE_REQUEST_HEADER => Op::RemoveRequestHeader(Op::header_name(payload)?),
        method::SET_REQUEST_BODY => Op::SetRequestBody(body()),
        _ => return Err(Refused("a stream is begun by set_response_stream_header".to_owned())),
    })
}
