//! The frames that a client sends, told apart by their heads (RFC 9113, 4.1).
//!
//! h2 reads them, but does not say what it read. What is asked here is only where one frame ends and the next begins:
//! what is in them, and whether it is right, stays h2's to judge.

/// Bytes before the first frame.
const PREFACE: usize = 24;
/// Bytes of a frame's head.
const HEAD: usize = 9;
const END_HEADERS: u8 = 0x4;

/// What a frame is; what has no name here is not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    ResetStream,
    Settings,
    PushPromise,
    GoAway,
    Continuation,
    Other,
}

impl Kind {
    fn of(number: u8) -> Kind {
        match number {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::ResetStream,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            7 => Kind::GoAway,
            9 => Kind::Continuation,
            _ => Kind::Other,
        }
    }
}

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    preface: usize,
    head: [u8; HEAD],
    /// How many bytes of a head are there.
    held: usize,
    /// The frame that is being read, and how much of it is still to come.
    kind: Kind,
    left: usize,
    /// Inside the fields of a message, which may take many frames.
    in_fields: bool,
    /// The first SETTINGS are there.
    settled: bool,
    /// There was a moment of rest in what was followed last.
    has_rested: bool,
    /// The highest stream that a message was begun on.
    pub(super) last_stream: u32,
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames {
            preface: PREFACE,
            head: [0; HEAD],
            held: 0,
            kind: Kind::Other,
            left: 0,
            in_fields: false,
            settled: false,
            has_rested: false,
            last_stream: 0,
        }
    }

    /// Whether nothing has been begun that a client has to finish soon. What it takes for a body is up to who reads it.
    pub(super) fn is_at_rest(&self) -> bool {
        self.settled && !self.in_fields && self.held == 0 && (self.left == 0 || self.kind == Kind::Data)
    }

    /// Whether it was so at any moment in what was followed last: what is begun now was begun in there.
    pub(super) fn has_rested(&self) -> bool {
        self.has_rested
    }

    /// Follows `bytes` in the order in which they are read, and tells `seen` of each frame that begins in them.
    ///
    /// # Errors
    /// What `seen` objects to; what comes behind is not looked at.
    pub(super) fn follow<E>(
        &mut self,
        mut bytes: &[u8],
        mut seen: impl FnMut(Kind) -> Result<(), E>,
    ) -> Result<(), E> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        self.has_rested = false;
        loop {
            let here = self.left.min(bytes.len());
            self.left -= here;
            bytes = &bytes[here..];
            if self.left > 0 {
                return Ok(());
            }
            if self.kind == Kind::Settings {
                self.settled = true;
            }
            self.has_rested |= self.is_at_rest();
            if bytes.is_empty() {
                return Ok(());
            }
            let piece = (HEAD - self.held).min(bytes.len());
            self.head[self.held..self.held + piece].copy_from_slice(&bytes[..piece]);
            self.held += piece;
            bytes = &bytes[piece..];
            if self.held < HEAD {
                return Ok(());
            }
            self.held = 0;
            let [a, b, c, number, flags, stream @ ..] = self.head;
            self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            self.kind = Kind::of(number);
            if matches!(self.kind, Kind::Headers | Kind::Continuation) {
                self.in_fields = flags & END_HEADERS == 0;
                self.last_stream = self.last_stream.max(u32::from_be_bytes(stream) & !(1 << 31));
            }
            seen(self.kind)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, flags, 0x80, 0, 0, stream];
        frame.extend(std::iter::repeat_n(0xff, length));
        frame
    }

    /// Follows `bytes` in pieces that end at `cuts`.
    fn follow(bytes: &[u8], cuts: &[usize]) -> (Frames, Vec<Kind>) {
        let (mut frames, mut kinds) = (Frames::new(), Vec::new());
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            let followed = frames.follow(&bytes[from..to], |kind| {
                kinds.push(kind);
                Ok::<_, ()>(())
            });
            assert!(followed.is_ok());
            from = to;
        }
        (frames, kinds)
    }

    fn some_frames() -> Vec<u8> {
        let frames =
            [frame(4, 0, 0, 6), frame(1, 0, 3, 300), frame(9, 4, 3, 0), frame(0, 1, 3, 9), frame(6, 0, 0, 8)];
        [PREFACE.to_vec(), frames.concat()].concat()
    }

    #[test]
    fn a_connection_is_at_rest_between_messages() {
        for (bytes, is_at_rest) in [
            (Vec::new(), false),
            (frame(4, 0, 0, 6), true),
            ([frame(4, 0, 0, 0), frame(1, 0, 1, 1)].concat(), false),
            ([frame(4, 0, 0, 0), frame(1, 0, 1, 1), frame(9, 4, 1, 1)].concat(), true),
            ([frame(4, 0, 0, 0), frame(0, 0, 1, 9)[..12].to_vec()].concat(), true),
            ([frame(4, 0, 0, 0), frame(6, 0, 0, 8)[..12].to_vec()].concat(), false),
            ([frame(4, 0, 0, 0), frame(6, 0, 0, 8)[..3].to_vec()].concat(), false),
        ] {
            let (frames, _) = follow(&[PREFACE, &bytes].concat(), &[]);
            assert_eq!(frames.is_at_rest(), is_at_rest, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_objected_to_ends_the_look() {
        let mut frames = Frames::new();
        let mut seen = 0;
        let followed = frames.follow(&some_frames(), |kind| {
            seen += 1;
            if kind == Kind::Headers { Err("no") } else { Ok(()) }
        });
        assert_eq!((followed, seen, frames.last_stream), (Err("no"), 2, 3));
    }

    proptest! {
        #[test]
        fn pieces_do_not_change_what_is_seen(mut cuts in prop::collection::vec(0_usize..400, 0..20)) {
            let bytes = some_frames();
            cuts.retain(|cut| *cut <= bytes.len());
            cuts.sort_unstable();
            let (frames, kinds) = follow(&bytes, &cuts);
            prop_assert_eq!(
                kinds,
                [Kind::Settings, Kind::Headers, Kind::Continuation, Kind::Data, Kind::Other]
            );
            prop_assert!(frames.is_at_rest());
        }

        #[test]
        fn any_bytes_are_followed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Frames::new().follow(&bytes, |_| Ok::<_, ()>(()));
        }
    }
}
