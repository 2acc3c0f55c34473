//! Appends one frame to a buffer. The count of a map's keys is filled in when the map is closed, so optional
//! keys need no counting ahead.

use crate::envelope::{Kind, VERSION};
use crate::error::WireError;
use crate::limits::MAX_FRAME;
use rmp::{Marker, encode};

/// Why a write into a `Vec` is not checked each time.
const IN_MEMORY: &str = "writing to memory does not fail";

/// Writes one frame.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

/// An open map: where its count belongs, and the count so far.
pub(crate) struct OpenMap {
    at: usize,
    keys: u16,
}

impl<'a> Writer<'a> {
    /// Starts a frame of this kind behind whatever is in `out` already.
    pub(crate) fn frame(out: &'a mut Vec<u8>, kind: Kind) -> (Writer<'a>, OpenMap) {
        let start = out.len();
        let mut writer = Writer { out, start };
        let mut map = writer.open();
        writer.key(&mut map, "t").text(kind.name());
        writer.key(&mut map, "v").uint(VERSION);
        (writer, map)
    }

    /// Ends the frame. One that is too large is taken back, since its lengths may not be what they say.
    pub(crate) fn finish(mut self, map: OpenMap) -> Result<(), WireError> {
        self.close(map);
        if self.out.len() - self.start > MAX_FRAME {
            return Err(self.give_up(WireError::TooLarge { what: "a frame", limit: MAX_FRAME }));
        }
        Ok(())
    }

    /// Takes the frame back.
    pub(crate) fn give_up(self, why: WireError) -> WireError {
        self.out.truncate(self.start);
        why
    }

    pub(crate) fn open(&mut self) -> OpenMap {
        let at = self.out.len();
        self.out.extend_from_slice(&[Marker::Map16.to_u8(), 0, 0]);
        OpenMap { at, keys: 0 }
    }

    pub(crate) fn close(&mut self, map: OpenMap) {
        self.out[map.at + 1..map.at + 3].copy_from_slice(&map.keys.to_be_bytes());
    }

    pub(crate) fn key(&mut self, map: &mut OpenMap, key: &str) -> &mut Self {
        map.keys += 1;
        self.text(key);
        self
    }

    pub(crate) fn text(&mut self, text: &str) {
        encode::write_str_len(self.out, text.len() as u32).expect(IN_MEMORY);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn bin(&mut self, bytes: &[u8]) {
        encode::write_bin_len(self.out, bytes.len() as u32).expect(IN_MEMORY);
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn uint(&mut self, value: u64) {
        encode::write_uint(self.out, value).expect(IN_MEMORY);
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        encode::write_bool(self.out, value).expect(IN_MEMORY);
    }

    pub(crate) fn array(&mut self, items: usize) {
        encode::write_array_len(self.out, items as u32).expect(IN_MEMORY);
    }
}
