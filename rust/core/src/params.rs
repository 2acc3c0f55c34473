//! What a path pattern captured.
//!
//! Each request with middleware has such a list and few handlers read it, so it is kept as it is cheapest to make: one
//! piece of memory with all names and values, taken apart by whoever asks.

use bytes::Bytes;
use std::fmt;

/// Names and values that a path pattern captured, in the pattern's order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// For each text its length in four bytes, and then the text.
    encoded: Bytes,
}

impl Params {
    /// Keeps names and values.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(all: impl IntoIterator<Item = (N, V)>) -> Params {
        let mut encoded = Vec::new();
        for (name, value) in all {
            let (name, value) = (name.as_ref(), value.as_ref());
            encoded.reserve_exact(8 + name.len() + value.len());
            put(&mut encoded, name);
            put(&mut encoded, value);
        }
        Params { encoded: Bytes::from(encoded) }
    }

    /// Whether nothing was captured.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// How many were captured.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut left = &self.encoded[..];
        std::iter::from_fn(move || Some((take(&mut left)?, take(&mut left)?)))
    }
}

fn put(encoded: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a path is shorter than 4 GiB: heads are limited");
    encoded.extend_from_slice(&length.to_ne_bytes());
    encoded.extend_from_slice(text.as_bytes());
}

fn take<'a>(left: &mut &'a [u8]) -> Option<&'a str> {
    let (length, rest) = left.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at(u32::from_ne_bytes(*length) as usize);
    *left = rest;
    Some(std::str::from_utf8(text).expect("it was text when it was put here"))
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comes_back_in_order() {
        let all = [("id", "4 2"), ("rest", ""), ("", "caf\u{e9}/\0")];
        let params = Params::new(all);
        assert_eq!(params.iter().collect::<Vec<_>>(), all);
        assert_eq!((params.len(), params.is_empty()), (3, false));
        assert!(Params::default().is_empty());
        assert_eq!(Params::default().iter().next(), None);
    }
}
