//! A call as it is written: which bodies travel along, and whether it fits a message.

use super::call::Running;
use crate::plugin::buffer::in_buffer;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_wire::{CallMeta, SessionId, encode_call, limits};
use std::time::Instant;

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
