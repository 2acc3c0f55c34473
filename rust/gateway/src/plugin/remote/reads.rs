//! Bodies that a worker asks for while its handler runs, and those that its handler has made.

use super::attempt::{protocol, unavailable};
use super::call::Running;
use super::life::Life;
use super::waiting::Waiting;
use crate::plugin::bodies::{request_body, response_body};
use crate::plugin::buffer::in_buffer;
use async_nats::client::PublishErrorKind;
use bytes::Bytes;
use nylon_core::Failure;
use nylon_wire::{ChunkFrame, CreditFrame, ReadFrame, Reply, Which, WireError};
use tokio::time::timeout_at;

impl Running<'_> {
    /// Sends the worker the body that its handler asked for. The wait for the client does not count.
    pub(super) async fn answer_read(
        &mut self,
        read: ReadFrame,
        life: &Life,
        waiting: &Waiting,
    ) -> Result<(), Failure> {
        let subject = self.worker(read.worker.as_str())?.subject.clone();
        let body = match read.which {
            Which::Request => request_body(&mut self.exchange, self.body, &mut self.deadline).await,
            // A worker asks for one of these two only: checked when the frame was read.
            _ => response_body(&mut self.exchange, None, &mut self.deadline).await,
        };
        for answer in self.bodies.answers(self.id, &read, body, life.max_payload, &mut self.deadline) {
            let frame = in_buffer(|buffer| answer.encode(buffer)).map_err(|why| protocol(&why))?;
            self.tell(subject.clone(), frame, life, waiting).await?;
        }
        Ok(())
    }

    /// Takes a part of a body that the handler has made, and says how far the worker may go.
    pub(super) async fn take_chunk(
        &mut self,
        chunk: ChunkFrame,
        life: &Life,
        waiting: &Waiting,
    ) -> Result<(), Failure> {
        let subject = self.worker(chunk.worker.as_str())?.subject.clone();
        let which = chunk.which;
        let taken = self.bodies.take(chunk);
        self.deadline = self.bodies.moved(self.deadline);
        let up_to = match &taken {
            Ok(None) => return Ok(()),
            Ok(Some(up_to)) => Ok(*up_to),
            Err(failure) => Err(failure.clone()),
        };
        let credit = CreditFrame { id: self.id, which, up_to };
        let frame = in_buffer(|buffer| credit.encode(buffer)).map_err(|why| protocol(&why))?;
        self.tell(subject, frame, life, waiting).await?;
        taken.map(drop)
    }

    /// Puts the bodies that came before a reply where it speaks of them.
    pub(super) fn attach_bodies(&mut self, reply: &mut Reply) -> Result<(), WireError> {
        let worker = reply.worker.clone();
        reply.put_back(|which| self.bodies.taken(&worker, which))
    }

    /// Sends a frame to a worker's own subject.
    async fn tell(
        &self,
        subject: String,
        frame: Bytes,
        life: &Life,
        waiting: &Waiting,
    ) -> Result<(), Failure> {
        match timeout_at(self.deadline.into(), life.client.publish(subject, frame)).await {
            Ok(Err(why)) if why.kind() != PublishErrorKind::Send => {
                Err(unavailable(format!("the body could not be sent: {why}")))
            }
            // If the connection is lost, an event tells it.
            Ok(_) => Ok(()),
            Err(_) => Err(self.timed_out(waiting)),
        }
    }
}
