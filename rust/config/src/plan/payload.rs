//! What a handler finds in `ctx.payload`.

use bytes::{BufMut, Bytes, BytesMut};
use nylon_core::Exchange;
use nylon_core::template::{MAX_RENDERED, Template, TooLong};
use rmp::encode::{ByteBuf, write_str_len};

/// A payload as MessagePack. Where texts in it are templates, it is put together for each request from pieces that are
/// encoded already; whatever the client sent becomes the content of a string and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload {
    /// Encoded values, and the string behind them.
    pub(crate) rendered: Vec<(Bytes, Template)>,
    /// Encoded values behind all strings that are rendered.
    pub(crate) last: Bytes,
}

impl Payload {
    /// The payload of a handler for which nothing is written.
    pub fn nil() -> Payload {
        Payload { rendered: Vec::new(), last: Bytes::from_static(b"\xc0") }
    }

    /// The payload, where it is the same for every request.
    pub fn constant(&self) -> Option<&Bytes> {
        self.rendered.is_empty().then_some(&self.last)
    }

    /// The payload for this exchange, as it is now.
    ///
    /// # Errors
    /// Its templates would render to more than [`MAX_RENDERED`] bytes together.
    pub fn render(&self, exchange: &Exchange) -> Result<Bytes, TooLong> {
        if let Some(bytes) = self.constant() {
            return Ok(bytes.clone());
        }
        let mut whole = BytesMut::new();
        let mut left = MAX_RENDERED;
        for (before, template) in &self.rendered {
            whole.put_slice(before);
            let text = template.render(exchange)?;
            left = left.checked_sub(text.len()).ok_or(TooLong)?;
            let mut head = ByteBuf::new();
            let length = u32::try_from(text.len()).expect("bounded by the limit above");
            write_str_len(&mut head, length).expect("a buffer in memory takes any write");
            whole.put_slice(head.as_slice());
            whole.put_slice(text.as_bytes());
        }
        whole.put_slice(&self.last);
        Ok(whole.freeze())
    }
}
