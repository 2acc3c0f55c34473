//! A body that did not travel with its call. The worker asks for it on the call's reply subject and the gateway
//! answers on the worker's own subject. One message carries it whole today; `of` and `to` are there so that a
//! later version can send it in parts.

use crate::envelope::{CallId, Kind, Text, read_frame, required};
use crate::error::WireError;
use crate::limits::{MAX_FRAME, MAX_NAME};
use crate::reader::Reader;
use crate::reply::{read_failure, write_failure};
use crate::writer::Writer;
use bytes::Bytes;
use nylon_core::Failure;
use std::time::Duration;

/// Which body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The request's.
    Request,
    /// The response's.
    Response,
}

impl Which {
    const fn name(self) -> &'static str {
        match self {
            Which::Request => "q",
            Which::Response => "r",
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Which, WireError> {
        match reader.text("which body", MAX_NAME)? {
            "q" => Ok(Which::Request),
            "r" => Ok(Which::Response),
            _ => Err(WireError::Invalid { what: "which body", why: "it is q or r" }),
        }
    }
}

/// Worker to gateway: send the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFrame {
    /// The call that wants it.
    pub id: CallId,
    /// The worker that asks.
    pub worker: Text,
    /// Which body.
    pub which: Which,
}

impl ReadFrame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Read);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "w").text(self.worker.as_str());
        writer.key(&mut map, "b").text(self.which.name());
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<ReadFrame, WireError> {
        let (mut id, mut worker, mut which) = (None, None, Which::Request);
        read_frame(frame, Kind::Read, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"w" => worker = Some(Text::read(reader, "the worker's id")?),
                b"b" => which = Which::read(reader)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ReadFrame { id: required(id, "call id (id)")?, worker: required(worker, "worker (w)")?, which })
    }
}

/// Gateway to worker: the body, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFrame {
    /// The call that wanted it.
    pub id: CallId,
    /// Which body.
    pub which: Which,
    /// The whole of it, or a failure that the handler's call shall end with.
    pub body: Result<Bytes, Failure>,
    /// The time left for a result now; the wait for the client did not count.
    pub remaining: Duration,
}

impl BodyFrame {
    /// Appends the frame to `out`; on an error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Body);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "b").text(self.which.name());
        let remaining = u64::try_from(self.remaining.as_millis()).unwrap_or(u64::MAX);
        writer.key(&mut map, "ms").uint(remaining);
        match &self.body {
            Ok(bytes) => {
                writer.key(&mut map, "of").uint(0);
                writer.key(&mut map, "to").uint(bytes.len() as u64);
                writer.key(&mut map, "d").bin(bytes);
            }
            Err(failure) => write_failure(writer.key(&mut map, "er"), failure),
        }
        writer.finish(map)
    }

    /// Reads the frame. A part of a body is refused: this version takes them whole.
    pub fn decode(frame: &Bytes) -> Result<BodyFrame, WireError> {
        let (mut id, mut which, mut remaining) = (None, Which::Request, Duration::ZERO);
        let (mut offset, mut total, mut data, mut failure) = (0, None, None, None);
        read_frame(frame, Kind::Body, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"b" => which = Which::read(reader)?,
                b"ms" => remaining = Duration::from_millis(reader.uint("the time left")?),
                b"of" => offset = reader.uint("the body's offset")?,
                b"to" => total = Some(reader.uint("the body's size")?),
                b"d" => data = Some(reader.shared("the body", MAX_FRAME)?),
                b"er" => failure = Some(read_failure(reader)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let body = match failure {
            Some(failure) => Err(failure),
            None => {
                let data = required(data, "body (d)")?;
                if offset != 0 || total.is_some_and(|total| total != data.len() as u64) {
                    return Err(WireError::Invalid { what: "the body", why: "it is not whole" });
                }
                Ok(data)
            }
        };
        Ok(BodyFrame { id: required(id, "call id (id)")?, which, body, remaining })
    }
}
