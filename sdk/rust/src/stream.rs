//! A response's body, written while it is on its way.

use crate::context::{Context, StreamState};
use crate::error::{Error, ErrorKind, Result};
use nylon_abi::method;

/// A response that is being written: see [`Response::stream`](crate::Response::stream).
///
/// In a [`Deferred`](crate::Deferred), a write waits while the client does not take the bytes. In a handler that is not
/// deferred nothing may wait, so the gateway keeps what is written, up to its `limits.max_body_bytes`.
///
/// A stream that is dropped without [`ResponseStream::end`] fails the phase, and the body breaks off: what is not
/// complete never looks so.
#[derive(Debug)]
#[must_use = "a stream without its end() breaks the response off"]
pub struct ResponseStream<'a> {
    context: &'a Context,
}

impl<'a> ResponseStream<'a> {
    pub(crate) fn new(context: &'a Context) -> ResponseStream<'a> {
        ResponseStream { context }
    }

    /// Writes some bytes.
    ///
    /// # Errors
    /// [`ErrorKind::StreamClosed`] where nobody takes any more.
    pub fn write(&mut self, data: impl AsRef<[u8]>) -> Result {
        match data.as_ref() {
            [] => Ok(()),
            data => self.tell(method::SET_RESPONSE_STREAM_DATA, data),
        }
    }

    /// Ends the response, and the phase with it.
    ///
    /// # Errors
    /// [`ErrorKind::StreamClosed`] where nobody takes any more.
    pub fn end(self) -> Result {
        self.tell(method::SET_RESPONSE_STREAM_END, &[])?;
        self.context.stream.set(StreamState::Ended);
        Ok(())
    }

    fn tell(&self, method: u32, data: &[u8]) -> Result {
        self.context.tell(method, data).map_err(|error| match error.kind() {
            ErrorKind::Closed => Error::new(ErrorKind::StreamClosed, "nobody reads the response any more"),
            _ => error,
        })
    }
}
