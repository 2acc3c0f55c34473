//! A body that did not come along with its call, fetched from the gateway when it is wanted.

use super::Desk;
use crate::plugin::BodySource;
use crate::plugin::process::socket::framed;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use nylon_core::{Failure, FailureKind};
use nylon_wire::limits::WINDOW;
use nylon_wire::{BodyFrame, CallId, Incoming, Part, ReadFrame, Which};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// One of the two bodies of a call that the gateway has.
pub(super) struct GatewaySource {
    desk: Rc<Desk>,
    id: CallId,
    which: Which,
    frames: mpsc::Receiver<BodyFrame>,
    read: Option<Result<Bytes, Failure>>,
}

impl GatewaySource {
    pub(super) fn new(
        desk: &Rc<Desk>,
        id: CallId,
        which: Which,
        frames: mpsc::Receiver<BodyFrame>,
    ) -> GatewaySource {
        GatewaySource { desk: desk.clone(), id, which, frames, read: None }
    }

    /// The whole body, and the time that is left for the result. The gateway's clock bounds the wait.
    pub(super) async fn fetch(&mut self) -> Result<(Bytes, Duration), Failure> {
        let mut parts = Incoming::new(WINDOW);
        self.ask(WINDOW)?;
        loop {
            let Some(frame) = self.frames.recv().await else {
                return Err(Failure::new(FailureKind::Cancelled, "the call was given up"));
            };
            let part: Part = frame.body?;
            if part.is_whole() {
                return Ok((part.data, frame.remaining));
            }
            let taken = parts.take(&part, u64::MAX);
            let complete = taken.map_err(|why| {
                Failure::new(FailureKind::Protocol, format!("the gateway's body was broken off: {why}"))
            })?;
            if complete {
                return Ok((parts.into_body(), frame.remaining));
            }
            if let Some(up_to) = parts.room() {
                self.ask(up_to)?;
            }
        }
    }

    fn ask(&self, up_to: u64) -> Result<(), Failure> {
        let worker = self.desk.worker.clone();
        let read = ReadFrame { id: self.id, worker, which: self.which, up_to: Some(up_to) };
        let frame = framed(|out| read.encode(out)).map_err(|why| {
            Failure::new(FailureKind::Protocol, format!("the body cannot be asked for: {why}"))
        })?;
        let gone = |_| Failure::new(FailureKind::Cancelled, "the gateway is gone");
        self.desk.outbox.send(frame).map_err(gone)
    }
}

impl BodySource for GatewaySource {
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Bytes, Failure>> {
        Box::pin(async move {
            if let Some(read) = &self.read {
                return read.clone();
            }
            let read = self.fetch().await.map(|(body, _)| body);
            self.read = Some(read.clone());
            read
        })
    }

    fn limit(&self) -> usize {
        self.desk.max_body_bytes
    }
}
