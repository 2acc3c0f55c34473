//! A call as it is written: which bodies travel along, and whether it fits a message.

use super::call::Running;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_wire::{CallMeta, SessionId, WireError, encode_call, limits};
use std::cell::RefCell;
use std::time::Instant;

/// A frame buffer that grew beyond this is given back after the call.
const KEEP_BUFFER: usize = 512 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Running<'_> {
    pub(super) fn encode(&self, session: SessionId, max_payload: usize) -> Result<Bytes, Failure> {
        let inline = limits::INLINE_BODY.min(max_payload / 4);
        let meta = CallMeta {
            id: self.id,
            session,
            plugin: &self.entry.plugin,
            entry: &self.entry.name,
            remaining: self.deadline.saturating_duration_since(Instant::now()),
            claim: self.claims.is_exclusive(),
            traceparent: self.exchange.request.headers.get("traceparent").map(|value| value.as_bytes()),
            inline_request_body: inline,
            inline_response_body: inline,
        };
        let frame = in_buffer(|buffer| encode_call(buffer, &meta, &self.call, &self.exchange))
            .map_err(|why| Failure::new(FailureKind::Protocol, format!("the call cannot be sent: {why}")))?;
        if frame.len() <= max_payload {
            return Ok(frame);
        }
        let size = frame.len();
        Err(Failure::new(
            FailureKind::Protocol,
            format!("the call has {size} bytes, but the broker's max_payload is {max_payload}"),
        ))
    }
}

/// Encodes into this thread's buffer and copies out what it came to.
pub(super) fn in_buffer(
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<Bytes, WireError> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let frame = encode(buffer).map(|()| Bytes::copy_from_slice(buffer));
        if buffer.capacity() > KEEP_BUFFER {
            *buffer = Vec::new();
        }
        frame
    })
}
