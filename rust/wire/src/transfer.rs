//! A body that travels in parts, at both of its ends. The sender never has more than a window of parts on their
//! way, because the receiver says how far it may go; the receiver takes them in order only, and never more than
//! was announced. Whatever is wrong with one part ends the whole transfer: nothing is used by half.

use crate::body::Part;
use crate::error::WireError;
use crate::limits::{MAX_PART, WINDOW};
use bytes::Bytes;

const WHAT: &str = "a part of a body";

/// A body on its way out.
#[derive(Debug)]
pub struct Outgoing {
    rest: Bytes,
    total: u64,
    next: u64,
    granted: u64,
    size: usize,
}

impl Outgoing {
    /// Cuts `body` into parts that fit into a message of `max_payload` bytes. `granted` parts may go at once.
    pub fn new(body: Bytes, max_payload: usize, granted: u64) -> Outgoing {
        // Half of a message leaves enough for whatever stands beside the part.
        let size = MAX_PART.min(max_payload / 2).max(1);
        Outgoing { total: body.len() as u64, rest: body, next: 0, granted: granted.min(WINDOW), size }
    }

    /// The receiver has room for parts below `up_to`. More than a window is not believed.
    pub fn grant(&mut self, up_to: u64) {
        self.granted = self.granted.max(up_to.min(self.next.saturating_add(WINDOW)));
    }

    /// Whether all parts are cut off.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Iterator for Outgoing {
    type Item = Part;

    /// The next part that there is room for.
    fn next(&mut self) -> Option<Part> {
        if self.rest.is_empty() || self.next >= self.granted {
            return None;
        }
        let data = self.rest.split_to(self.size.min(self.rest.len()));
        self.next += 1;
        Some(Part { number: self.next - 1, total: self.total, data })
    }
}

/// A body on its way in.
#[derive(Debug, Default)]
pub struct Incoming {
    data: Vec<u8>,
    total: Option<u64>,
    next: u64,
    granted: u64,
}

impl Incoming {
    /// A transfer whose sender may send `granted` parts at once.
    pub fn new(granted: u64) -> Incoming {
        Incoming { granted, ..Incoming::default() }
    }

    /// Takes the next part; `limit` bounds the whole body. True when it is complete.
    ///
    /// # Errors
    /// When a part is missing or empty, comes before there was room for it, or goes beyond what was announced or
    /// is allowed. The transfer is over then.
    pub fn take(&mut self, part: &Part, limit: u64) -> Result<bool, WireError> {
        let invalid = |why| Err(WireError::Invalid { what: WHAT, why });
        if part.total > limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            return Err(WireError::TooLarge { what: "a body", limit });
        }
        if part.number != self.next {
            return invalid("one before it is missing, or it came twice");
        }
        if part.number >= self.granted {
            return invalid("there was no room for it");
        }
        if self.total.is_some_and(|total| total != part.total) {
            return invalid("it announces another size than the one before it");
        }
        self.total = Some(part.total);
        let length = (self.data.len() + part.data.len()) as u64;
        if length > part.total || part.data.is_empty() {
            return invalid("it is empty, or larger than what was left of the body");
        }
        self.data.extend_from_slice(&part.data);
        self.next += 1;
        Ok(length == part.total)
    }

    /// How far the sender may go now, where that is news: told when half of the window is used up.
    pub fn room(&mut self) -> Option<u64> {
        if self.granted - self.next > WINDOW / 2 {
            return None;
        }
        self.granted = self.next + WINDOW;
        Some(self.granted)
    }

    /// What has come.
    pub fn into_body(self) -> Bytes {
        self.data.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(length: usize) -> Bytes {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    /// Sends a body through both ends; the most parts that were on their way at once.
    fn send(length: usize, max_payload: usize) -> (Bytes, u64) {
        let mut outgoing = Outgoing::new(body(length), max_payload, 1);
        let mut incoming = Incoming::new(1);
        let mut most = 0;
        loop {
            let parts: Vec<Part> = outgoing.by_ref().collect();
            most = most.max(parts.len() as u64);
            for part in parts {
                if incoming.take(&part, 1 << 30).expect("a good part") {
                    assert!(outgoing.is_done());
                    return (incoming.into_body(), most);
                }
                if let Some(up_to) = incoming.room() {
                    outgoing.grant(up_to);
                }
            }
        }
    }

    #[test]
    fn a_body_arrives_as_it_was_and_never_more_than_a_window_is_on_its_way() {
        for length in [1, MAX_PART - 1, MAX_PART, MAX_PART + 1, 3 << 20] {
            let (arrived, most) = send(length, 1 << 20);
            assert_eq!(arrived, body(length));
            assert!(most <= WINDOW, "{most}");
        }
        assert_eq!(send(10_000, 64).0, body(10_000));
    }

    #[test]
    fn a_sender_does_not_believe_more_room_than_a_window() {
        let mut outgoing = Outgoing::new(body(64 * MAX_PART), 1 << 20, 1);
        outgoing.grant(u64::MAX);
        assert_eq!(outgoing.by_ref().count() as u64, WINDOW);
        outgoing.grant(3);
        assert_eq!(outgoing.next(), None);
    }

    #[test]
    fn whatever_is_wrong_with_one_part_ends_the_transfer() {
        let part = |number, total, length| Part { number, total, data: body(length) };
        let refused = |parts: &[Part]| {
            let mut incoming = Incoming::new(2);
            parts.iter().any(|part| incoming.take(part, 1000).is_err())
        };
        assert!(!refused(&[part(0, 20, 10), part(1, 20, 10)]));
        assert!(refused(&[part(1, 20, 10)]), "a gap");
        assert!(refused(&[part(0, 20, 10), part(0, 20, 10)]), "twice");
        assert!(refused(&[part(0, 20, 10), part(1, 20, 11)]), "beyond what was announced");
        assert!(refused(&[part(0, 20, 10), part(1, 21, 10)]), "another size");
        assert!(refused(&[part(0, 20, 10), part(1, 20, 0)]), "nothing");
        assert!(refused(&[part(0, 30, 10), part(1, 30, 10), part(2, 30, 10)]), "beyond the room");
        assert!(refused(&[part(0, 1001, 10)]), "over the limit");
    }
}
