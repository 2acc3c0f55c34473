//! Wakes the worker's loop from other threads.
//!
//! A pipe whose reading end the loop watches. The flag keeps at most one byte in it, so that a write never waits
//! and many answers of one moment cost one wake-up.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

pub(crate) struct Wake {
    reader: PipeReader,
    writer: PipeWriter,
    pending: AtomicBool,
}

impl Wake {
    pub(crate) fn new() -> std::io::Result<Wake> {
        let (reader, writer) = std::io::pipe()?;
        Ok(Wake { reader, writer, pending: AtomicBool::new(false) })
    }

    /// What the loop watches for reading.
    pub(crate) fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Makes the loop call [`Wake::clear`] soon.
    pub(crate) fn set(&self) {
        if !self.pending.swap(true, SeqCst)
            && let Err(error) = (&self.writer).write_all(&[1])
        {
            // Both ends are ours and open as long as `self` is.
            tracing::error!("waking the worker's loop failed: {error}");
        }
    }

    /// Takes the byte back. What was set before is seen by whoever looks after this.
    pub(crate) fn clear(&self) {
        if self.pending.load(SeqCst) {
            let mut byte = [0];
            if let Err(error) = (&self.reader).read_exact(&mut byte) {
                tracing::error!("reading the worker's wake-up failed: {error}");
            }
            self.pending.store(false, SeqCst);
        }
    }
}
