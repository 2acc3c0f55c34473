//! Bodies that a worker asks for while its handler runs.

use super::attempt::{protocol, unavailable};
use super::call::Running;
use super::life::Life;
use super::outgoing::in_buffer;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, RequestBody};
use nylon_wire::{BodyFrame, ReadFrame, Which};
use std::time::Instant;
use tokio::time::timeout_at;

impl Running<'_> {
    /// Sends the worker the body that its handler asked for. The wait for the client does not count.
    pub(super) async fn answer_read(&mut self, read: ReadFrame, life: &Life) -> Result<(), Failure> {
        let subject = self.on.group.subjects.worker(read.worker.as_str());
        let subject = subject.map_err(|why| Failure::new(FailureKind::Protocol, why.to_string()))?;
        let body = match read.which {
            Which::Request => self.request_body().await,
            Which::Response => self.exchange.response_body.bytes().cloned().ok_or_else(|| {
                Failure::new(FailureKind::BodyUnreadable, "the response body streams past and cannot be read")
            }),
        };
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        let mut answer = BodyFrame { id: self.id, which: read.which, body, remaining };
        let mut frame = in_buffer(|buffer| answer.encode(buffer)).map_err(|why| protocol(&why))?;
        if frame.len() > life.max_payload {
            let (size, limit) = (frame.len(), life.max_payload);
            let message =
                format!("the body's message has {size} bytes, but the broker's max_payload is {limit}");
            answer.body = Err(Failure::new(FailureKind::BodyTooLarge, message));
            frame = in_buffer(|buffer| answer.encode(buffer)).map_err(|why| protocol(&why))?;
        }
        match timeout_at(self.deadline.into(), life.client.publish(subject, frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(unavailable(format!("the body could not be sent: {why}"))),
            Err(_) => Err(self.timed_out(Some(read.worker))),
        }
    }

    async fn request_body(&mut self) -> Result<Bytes, Failure> {
        if let Some(bytes) = self.exchange.request_body.bytes() {
            return Ok(bytes.clone());
        }
        let asked = Instant::now();
        let bytes = self.body.read().await;
        self.deadline += asked.elapsed();
        let bytes = bytes?;
        // It stays read whatever becomes of the call, since the connection has it no more.
        self.exchange.request_body = RequestBody::Read(bytes.clone());
        Ok(bytes)
    }
}
