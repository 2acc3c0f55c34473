//! Frames are written into a buffer of the thread's own, so that each costs one allocation, of its size.

use bytes::Bytes;
use nylon_wire::WireError;
use std::cell::RefCell;

/// A buffer that grew beyond this is given back after the frame.
const KEEP_BUFFER: usize = 512 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
