//! The chunks of a response body that another process is still writing, in their order and within the room that was
//! given for them.

use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_wire::limits::WINDOW;
use nylon_wire::{ChunkFrame, Which};

/// What a frame came to.
pub(super) enum Taken {
    Data(Bytes),
    /// No part of this stream, or nothing in it.
    Ignored,
    End,
}

/// How far the stream has come.
pub(super) struct Chunks {
    next: u64,
    granted: u64,
    over: bool,
}

impl Chunks {
    /// A stream whose writer may send a window at once.
    pub(super) fn new() -> Chunks {
        Chunks { next: 0, granted: WINDOW, over: false }
    }

    /// Whether its end has come, in whatever way.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// It ends here, whatever may still come.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// Takes a frame that `worker` was to send.
    ///
    /// # Errors
    /// When a chunk is missing, came before there was room for it, or tells of a failure.
    pub(super) fn take(&mut self, worker: &str, frame: &Bytes) -> Result<Taken, Failure> {
        let chunk = ChunkFrame::decode(frame).map_err(|why| invalid(&why.to_string()))?;
        if chunk.worker.as_str() != worker || chunk.which != Which::Stream {
            return Ok(Taken::Ignored);
        }
        if chunk.number != self.next {
            return Err(invalid("one before it is missing, or it came twice"));
        }
        if let Some(Err(failure)) = chunk.end {
            return Err(failure);
        }
        let ends = chunk.end.is_some();
        // The end itself needs no room.
        if self.next >= self.granted && !(ends && chunk.data.is_empty()) {
            return Err(invalid("there was no room for it"));
        }
        self.next += 1;
        self.over = ends;
        match chunk.data.is_empty() {
            true if ends => Ok(Taken::End),
            true => Ok(Taken::Ignored),
            // Not the read buffer that it came in, which may be much larger.
            false => Ok(Taken::Data(Bytes::copy_from_slice(&chunk.data))),
        }
    }

    /// How far the writer may go.
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// How far it may go now, where that is news: once half of the room is used up.
    pub(super) fn room(&mut self) -> Option<u64> {
        if self.over || self.granted - self.next > WINDOW / 2 {
            return None;
        }
        self.granted = self.next + WINDOW;
        Some(self.granted)
    }
}

/// A frame of a stream that cannot be right.
pub(super) fn invalid(why: &str) -> Failure {
    Failure::new(FailureKind::Protocol, format!("a chunk of the stream is not valid: {why}"))
}
