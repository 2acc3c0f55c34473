//! A cursor over one frame. Strings and binaries come out as slices of the frame's own bytes (no copy), numbers
//! by value, and whatever is not wanted is skipped without recursion, so that depth costs no stack.

use crate::error::WireError;
use bytes::Bytes;
use rmp::Marker;

/// Reads one MessagePack value after the other.
pub(crate) struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a Bytes) -> Reader<'a> {
        Reader { frame, rest: frame }
    }

    /// Fails if anything is left.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::Trailing(left)),
        }
    }

    /// The same bytes as a cheap handle on the frame.
    pub(crate) fn share(&self, part: &'a [u8]) -> Bytes {
        if part.is_empty() { Bytes::new() } else { self.frame.slice_ref(part) }
    }

    #[inline]
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated { what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self, what: &'static str) -> Result<u64, WireError> {
        let bytes = self.take(N, what)?;
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    #[inline]
    fn marker(&mut self, what: &'static str) -> Result<Marker, WireError> {
        let (&first, rest) = self.rest.split_first().ok_or(WireError::Truncated { what })?;
        self.rest = rest;
        Ok(Marker::from_u8(first))
    }

    pub(crate) fn peek(&self) -> Option<Marker> {
        self.rest.first().map(|&byte| Marker::from_u8(byte))
    }

    /// Whether the next value is nil; if so it is taken.
    pub(crate) fn nil(&mut self) -> bool {
        let is_nil = self.peek() == Some(Marker::Null);
        if is_nil {
            self.rest = &self.rest[1..];
        }
        is_nil
    }

    /// An unsigned integer.
    pub(crate) fn uint(&mut self, what: &'static str) -> Result<u64, WireError> {
        let wrong = || Err(WireError::Type { what, expected: "an unsigned integer" });
        let positive = |value: u64, bits: u32| if value >> (bits - 1) == 0 { Ok(value) } else { wrong() };
        match self.marker(what)? {
            Marker::FixPos(value) => Ok(value.into()),
            Marker::U8 => self.number::<1>(what),
            Marker::U16 => self.number::<2>(what),
            Marker::U32 => self.number::<4>(what),
            Marker::U64 => self.number::<8>(what),
            // Some encoders write a positive number in a signed type.
            Marker::I8 => self.number::<1>(what).and_then(|value| positive(value, 8)),
            Marker::I16 => self.number::<2>(what).and_then(|value| positive(value, 16)),
            Marker::I32 => self.number::<4>(what).and_then(|value| positive(value, 32)),
            Marker::I64 => self.number::<8>(what).and_then(|value| positive(value, 64)),
            _ => wrong(),
        }
    }

    /// An unsigned integer of a smaller type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, WireError> {
        T::try_from(self.uint(what)?).map_err(|_| WireError::Invalid { what, why: "the number is too large" })
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.marker(what)? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            _ => Err(WireError::Type { what, expected: "a boolean" }),
        }
    }

    /// The bytes of a string or a binary of at most `limit` bytes.
    #[inline]
    pub(crate) fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        // Nearly all names and values are this short.
        if let [first, rest @ ..] = self.rest
            && let (len, Some(rest)) = match first {
                0xa0..=0xbf => (first & 0x1f, Some(rest)),
                0xc4 | 0xd9 => (rest.first().copied().unwrap_or(0), rest.get(1..)),
                _ => (0, None),
            }
            && usize::from(len) <= limit
            && let Some((taken, rest)) = rest.split_at_checked(len.into())
        {
            self.rest = rest;
            return Ok(taken);
        }
        self.any_bytes(what, limit)
    }

    fn any_bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        let len = match self.marker(what)? {
            Marker::FixStr(len) => len.into(),
            Marker::Str8 | Marker::Bin8 => self.number::<1>(what)?,
            Marker::Str16 | Marker::Bin16 => self.number::<2>(what)?,
            Marker::Str32 | Marker::Bin32 => self.number::<4>(what)?,
            _ => return Err(WireError::Type { what, expected: "a string or a binary" }),
        };
        match usize::try_from(len) {
            Ok(len) if len <= limit => self.take(len, what),
            _ => Err(WireError::TooLarge { what, limit }),
        }
    }

    /// The same as a handle on the frame.
    pub(crate) fn shared(&mut self, what: &'static str, limit: usize) -> Result<Bytes, WireError> {
        let part = self.bytes(what, limit)?;
        Ok(self.share(part))
    }

    /// UTF-8 text of at most `limit` bytes.
    pub(crate) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(what, limit)?)
            .map_err(|_| WireError::Invalid { what, why: "it is not UTF-8" })
    }

    /// Exactly `N` bytes.
    pub(crate) fn exactly<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        self.bytes(what, N)?.try_into().map_err(|_| WireError::Invalid { what, why: "it is too short" })
    }

    /// The number of items of an array, at most `limit`.
    pub(crate) fn array(&mut self, what: &'static str, limit: usize) -> Result<usize, WireError> {
        let len = match self.marker(what)? {
            Marker::FixArray(len) => len.into(),
            Marker::Array16 => self.number::<2>(what)?,
            Marker::Array32 => self.number::<4>(what)?,
            _ => return Err(WireError::Type { what, expected: "an array" }),
        };
        self.count(len, 1, what, limit)
    }

    /// The number of entries of a map.
    pub(crate) fn map(&mut self, what: &'static str) -> Result<usize, WireError> {
        let len = match self.marker(what)? {
            Marker::FixMap(len) => len.into(),
            Marker::Map16 => self.number::<2>(what)?,
            Marker::Map32 => self.number::<4>(what)?,
            _ => return Err(WireError::Type { what, expected: "a map" }),
        };
        self.count(len, 2, what, usize::MAX)
    }

    /// A count is believed only if the bytes for so many items can be there.
    fn count(&self, len: u64, each: u64, what: &'static str, limit: usize) -> Result<usize, WireError> {
        if len.saturating_mul(each) > self.rest.len() as u64 {
            return Err(WireError::Truncated { what });
        }
        match usize::try_from(len) {
            Ok(len) if len <= limit => Ok(len),
            _ => Err(WireError::TooLarge { what, limit }),
        }
    }

    /// The next map key; a key of another type than text is no key of ours.
    pub(crate) fn key(&mut self) -> Result<&'a [u8], WireError> {
        match self.peek() {
            Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => {
                self.bytes("a key", usize::MAX)
            }
            _ => self.skip().map(|_| b"".as_slice()),
        }
    }

    /// Passes over one value, whatever it is, and returns its bytes.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], WireError> {
        let what = "a value";
        let start = self.rest;
        let mut pending: u64 = 1;
        while pending > 0 {
            pending -= 1;
            // Nearly everything is a short string or binary.
            let short = match self.rest {
                [first @ 0xa0..=0xbf, ..] => 1 + usize::from(first & 0x1f),
                [0xc4, len, ..] => 2 + usize::from(*len),
                _ => 0,
            };
            if short != 0 {
                self.take(short, what)?;
                continue;
            }
            let bytes = match self.marker(what)? {
                Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
                Marker::U8 | Marker::I8 => 1,
                Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
                Marker::FixExt2 => 3,
                Marker::U32 | Marker::I32 | Marker::F32 => 4,
                Marker::FixExt4 => 5,
                Marker::U64 | Marker::I64 | Marker::F64 => 8,
                Marker::FixExt8 => 9,
                Marker::FixExt16 => 17,
                Marker::FixStr(len) => len.into(),
                Marker::Str8 | Marker::Bin8 => self.number::<1>(what)?,
                Marker::Str16 | Marker::Bin16 => self.number::<2>(what)?,
                Marker::Str32 | Marker::Bin32 => self.number::<4>(what)?,
                Marker::Ext8 => self.number::<1>(what)? + 1,
                Marker::Ext16 => self.number::<2>(what)? + 1,
                Marker::Ext32 => self.number::<4>(what)? + 1,
                Marker::Reserved => return Err(WireError::Type { what, expected: "MessagePack" }),
                items => {
                    pending += match items {
                        Marker::FixArray(len) => len.into(),
                        Marker::FixMap(len) => 2 * u64::from(len),
                        Marker::Array16 => self.number::<2>(what)?,
                        Marker::Array32 => self.number::<4>(what)?,
                        Marker::Map16 => 2 * self.number::<2>(what)?,
                        _ => 2 * self.number::<4>(what)?,
                    };
                    0
                }
            };
            let bytes = usize::try_from(bytes).map_err(|_| WireError::Truncated { what })?;
            self.take(bytes, what)?;
        }
        Ok(&start[..start.len() - self.rest.len()])
    }

    /// Passes over one value and keeps it for later, as a frame of its own.
    pub(crate) fn section(&mut self) -> Result<Bytes, WireError> {
        let part = self.skip()?;
        Ok(self.share(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_frame_is_refused_before_anything_is_reserved() {
        for bytes in [&b"\xdd\xff\xff\xff\xff\x01"[..], b"\xdf\xff\xff\xff\xff\x01\x01"] {
            let frame = Bytes::copy_from_slice(bytes);
            let mut reader = Reader::new(&frame);
            let refused =
                if bytes[0] == 0xdd { reader.array("items", usize::MAX) } else { reader.map("items") };
            assert_eq!(refused, Err(WireError::Truncated { what: "items" }));
        }
    }

    #[test]
    fn skipping_a_deep_nest_needs_no_stack() {
        let mut deep = vec![0x91; 1 << 20];
        deep.push(0xc0);
        let frame = Bytes::from(deep);
        let mut reader = Reader::new(&frame);
        assert_eq!(reader.skip().map(<[u8]>::len), Ok((1 << 20) + 1));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_negative_number_is_no_unsigned_one() {
        for bytes in [&b"\xff"[..], b"\xd0\x80", b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff"] {
            let frame = Bytes::copy_from_slice(bytes);
            assert!(matches!(Reader::new(&frame).uint("number"), Err(WireError::Type { .. })));
        }
        let frame = Bytes::from_static(b"\xd1\x7f\xff");
        assert_eq!(Reader::new(&frame).uint("number"), Ok(0x7fff));
    }
}
