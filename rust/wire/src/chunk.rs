//! A body that a handler made and that is too large for the reply, or that is still being written. The worker
//! sends it in numbered chunks on the call's reply subject; the gateway says on the worker's own subject how far
//! it may go. So no more than a window of one body is ever on its way, whoever is slow.

use crate::body::{Part, Which};
use crate::envelope::{CallId, Kind, Text, read_frame, required};
use crate::error::WireError;
use crate::limits::MAX_PART;
use crate::reply::{read_failure, write_failure};
use crate::writer::Writer;
use bytes::Bytes;
use nylon_core::Failure;

/// Worker to gateway: the next part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkFrame {
    /// The call whose handler made it.
    pub id: CallId,
    /// The worker that sends it.
    pub worker: Text,
    /// Which body.
    pub which: Which,
    /// The chunk's place, from 0.
    pub number: u64,
    /// The size of the whole body; 0 for a stream, whose size nobody knows yet.
    pub total: u64,
    /// The bytes.
    pub data: Bytes,
    /// How a stream ends with this chunk; `None` while it goes on, and for the other bodies.
    pub end: Option<Result<(), Failure>>,
}

impl ChunkFrame {
    /// Appends the frame to `out`; on an error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.data.len() > MAX_PART {
            return Err(WireError::TooLarge { what: "a chunk", limit: MAX_PART });
        }
        let (mut writer, mut map) = Writer::frame(out, Kind::Chunk);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "w").text(self.worker.as_str());
        writer.key(&mut map, "b").text(self.which.name());
        writer.key(&mut map, "n").uint(self.number);
        if self.which != Which::Stream {
            writer.key(&mut map, "to").uint(self.total);
        }
        if !self.data.is_empty() {
            writer.key(&mut map, "d").bin(&self.data);
        }
        match &self.end {
            None => {}
            Some(Ok(())) => writer.key(&mut map, "end").boolean(true),
            Some(Err(failure)) => write_failure(writer.key(&mut map, "er"), failure),
        }
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<ChunkFrame, WireError> {
        let (mut id, mut worker, mut which, mut number, mut total) = (None, None, None, None, None);
        let (mut data, mut ends, mut failure) = (Bytes::new(), false, None);
        read_frame(frame, Kind::Chunk, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"w" => worker = Some(Text::read(reader, "the worker's id")?),
                b"b" => which = Some(Which::read(reader)?),
                b"n" => number = Some(reader.uint("the chunk's number")?),
                b"to" => total = Some(reader.uint("the body's size")?),
                b"d" => data = reader.shared("a chunk", MAX_PART)?,
                b"end" => ends = reader.boolean("the end of the stream")?,
                b"er" => failure = Some(read_failure(reader)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let which = required(which, "body (b)")?;
        let streams = which == Which::Stream;
        Ok(ChunkFrame {
            id: required(id, "call id (id)")?,
            worker: required(worker, "worker (w)")?,
            which,
            number: required(number, "number (n)")?,
            total: if streams { 0 } else { required(total, "size (to)")? },
            data,
            end: match failure {
                Some(failure) if streams => Some(Err(failure)),
                _ => (ends && streams).then_some(Ok(())),
            },
        })
    }

    /// The same as a part of a body of known size.
    pub fn into_part(self) -> Part {
        Part { number: self.number, total: self.total, data: self.data }
    }
}

/// Gateway to worker: chunks with a number below this may come, or none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditFrame {
    /// The call.
    pub id: CallId,
    /// Which body.
    pub which: Which,
    /// How far the worker may go, or why it need not go on.
    pub up_to: Result<u64, Failure>,
}

impl CreditFrame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Credit);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "b").text(self.which.name());
        match &self.up_to {
            Ok(up_to) => writer.key(&mut map, "up").uint(*up_to),
            Err(failure) => write_failure(writer.key(&mut map, "er"), failure),
        }
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<CreditFrame, WireError> {
        let (mut id, mut which, mut up_to, mut failure) = (None, None, None, None);
        read_frame(frame, Kind::Credit, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"b" => which = Some(Which::read(reader)?),
                b"up" => up_to = Some(reader.uint("the room for chunks")?),
                b"er" => failure = Some(read_failure(reader)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let up_to = match failure {
            Some(failure) => Err(failure),
            None => Ok(required(up_to, "room (up)")?),
        };
        Ok(CreditFrame { id: required(id, "call id (id)")?, which: required(which, "body (b)")?, up_to })
    }
}
