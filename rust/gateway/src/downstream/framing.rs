//! The bytes that a client sends, looked at on their way to hyper.
//!
//! hyper merges equal `content-length` lines, lets `transfer-encoding` silently win over them and takes a bare line
//! feed for a line's end: all legal, and all ways in which a server behind us might read another message than we do
//! (RFC 9112, 2.2, 6.3 and 11.2). It shows none of that to its service, so the lines that frame a message are
//! followed here, through pipelined requests too. Where something can be read in two ways, the end of its line is
//! made unreadable: hyper then answers 400 and closes, and no byte behind that line is ever looked at.

use memchr::memchr;

/// As much of a line as is kept when it comes in pieces; the lines that matter are much shorter.
const LINE: usize = 256;

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A line.
    Line(Line),
    /// So many bytes of a body; then the end of a chunk, or of the message.
    Data { left: u64, chunked: bool },
    /// Not known before an offered upgrade is answered.
    Offered,
    /// Not HTTP: both sides have switched.
    Switched,
    /// Refused: nothing more is looked at.
    Refused,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Request,
    Field,
    ChunkSize,
    ChunkEnd,
    Trailer,
}

/// What the fields of the head that is being read say of its body.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// Bytes that nobody may read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// How many bytes are passed on; the last of them has been made unreadable.
    pub(super) keep: usize,
    /// Why.
    pub(super) reason: &'static str,
}

/// Follows the framing of one connection's requests.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    said: Said,
    /// Complete heads.
    heads: u64,
    /// The beginning of a line that comes in pieces, and whether some of its middle is missing.
    line: Vec<u8>,
    cut: bool,
}

impl Framing {
    pub(super) fn new() -> Framing {
        let state = State::Line(Line::Request);
        Framing { state, said: Said::default(), heads: 0, line: Vec::new(), cut: false }
    }

    /// Whether all that was read are whole requests.
    pub(super) fn is_at_rest(&self) -> bool {
        self.state == State::Line(Line::Request) && self.line.is_empty() || self.state == State::Switched
    }

    /// Whether an upgrade was offered that is not among the `answers` given: what comes next cannot be read before.
    pub(super) fn awaits_answer(&self, answers: u64) -> bool {
        self.state == State::Offered && answers < self.heads
    }

    /// The answer to an offered upgrade is on its way.
    pub(super) fn answered(&mut self, switched: bool) {
        if self.state == State::Offered {
            self.state = if switched { State::Switched } else { State::Line(Line::Request) };
        }
    }

    /// Follows `bytes`, in the order in which they are read.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) -> Result<(), Refused> {
        let mut at = 0;
        while at < bytes.len() {
            let refused = match self.state {
                State::Switched => return Ok(()),
                State::Refused => return Err(Refused { keep: 0, reason: "the connection is refused" }),
                State::Offered => Some((at, "bytes behind an upgrade that is not answered")),
                State::Data { left, chunked } => {
                    let here = left.min((bytes.len() - at) as u64);
                    // It is at most the length of a slice.
                    at += here as usize;
                    self.state = match (left - here, chunked) {
                        (0, true) => State::Line(Line::ChunkEnd),
                        (0, false) => State::Line(Line::Request),
                        (left, chunked) => State::Data { left, chunked },
                    };
                    None
                }
                State::Line(line) => match memchr(b'\n', &bytes[at..]) {
                    None => {
                        self.keep(&bytes[at..]);
                        return Ok(());
                    }
                    Some(length) => {
                        let end = at + length;
                        let read = if self.line.is_empty() {
                            self.read(line, &bytes[at..end])
                        } else {
                            self.keep(&bytes[at..end]);
                            let kept = std::mem::take(&mut self.line);
                            let read = self.read(line, &kept);
                            self.line = kept;
                            self.line.clear();
                            read
                        };
                        self.cut = false;
                        at = end + 1;
                        match read {
                            Ok(next) => {
                                self.state = next;
                                None
                            }
                            Err(reason) => Some((end, reason)),
                        }
                    }
                },
            };
            if let Some((at, reason)) = refused {
                self.state = State::Refused;
                // No byte of a head or of a chunk's line may be NUL: whoever parses this stops here.
                bytes[at] = 0;
                return Err(Refused { keep: at + 1, reason });
            }
        }
        Ok(())
    }

    /// Keeps a piece of a line; of a long one its beginning and its last byte.
    fn keep(&mut self, piece: &[u8]) {
        let room = LINE.saturating_sub(self.line.len()).min(piece.len());
        self.line.extend_from_slice(&piece[..room]);
        if let (true, Some(last)) = (room < piece.len(), piece.last()) {
            self.cut = true;
            self.line.truncate(LINE);
            self.line.push(*last);
        }
    }

    /// Reads a line, its line feed removed, and says what comes behind it.
    fn read(&mut self, line: Line, text: &[u8]) -> Result<State, &'static str> {
        let Some((b'\r', text)) = text.split_last() else {
            return Err("a line that does not end in CR LF");
        };
        match line {
            Line::Request if text.is_empty() => Ok(State::Line(Line::Request)),
            Line::Request => {
                self.said = Said::default();
                Ok(State::Line(Line::Field))
            }
            Line::Field if text.is_empty() => {
                self.heads += 1;
                Ok(match self.said {
                    Said { chunked: true, .. } => State::Line(Line::ChunkSize),
                    Said { length: Some(left @ 1..), .. } => State::Data { left, chunked: false },
                    Said { upgrade: true, .. } => State::Offered,
                    _ => State::Line(Line::Request),
                })
            }
            Line::Field => self.field(text).map(|()| State::Line(Line::Field)),
            Line::ChunkSize => match chunk_size(text)? {
                0 => Ok(State::Line(Line::Trailer)),
                left => Ok(State::Data { left, chunked: true }),
            },
            Line::ChunkEnd if text.is_empty() => Ok(State::Line(Line::ChunkSize)),
            Line::ChunkEnd => Err("a chunk that is longer than its size"),
            Line::Trailer if text.is_empty() => Ok(State::Line(Line::Request)),
            Line::Trailer if is_blank(text[0]) => Err("a folded line"),
            Line::Trailer => Ok(State::Line(Line::Trailer)),
        }
    }

    fn field(&mut self, text: &[u8]) -> Result<(), &'static str> {
        match text[0] | 0x20 {
            b'c' | b't' | b'u' => {}
            _ if is_blank(text[0]) => return Err("a folded line"),
            _ => return Ok(()),
        }
        // A line without a colon is no field; hyper says so.
        let Some(colon) = memchr(b':', text) else { return Ok(()) };
        let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.said.chunked || self.said.length.is_some() {
                return Err("more than one length");
            }
            self.said.length = Some(decimal(value).filter(|_| !self.cut).ok_or("an invalid content-length")?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.said.chunked || self.said.length.is_some() {
                return Err("more than one length");
            }
            if self.cut || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a transfer-encoding other than chunked");
            }
            self.said.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.said.upgrade = true;
        }
        Ok(())
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?
    })
}

/// The size of a chunk; extensions are skipped (RFC 9112, 7.1.1).
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    const INVALID: &str = "an invalid chunk size";
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if !(1..=15).contains(&digits) {
        return Err(INVALID);
    }
    match line[digits..].trim_ascii_start().first() {
        None | Some(b';') => {}
        Some(_) => return Err(INVALID),
    }
    let value = |byte: u8| u64::from(char::from(byte).to_digit(16).unwrap_or_default());
    Ok(line[..digits].iter().fold(0, |sum, digit| sum << 4 | value(*digit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Follows `text` in pieces that end at `cuts`; gives the bytes passed on, or the reason of a refusal.
    fn follow(text: &str, cuts: &[usize]) -> Result<Framing, &'static str> {
        let mut framing = Framing::new();
        let mut bytes = text.as_bytes().to_vec();
        let mut from = 0;
        for to in cuts.iter().copied().chain([text.len()]) {
            framing.follow(&mut bytes[from..to]).map_err(|refused| refused.reason)?;
            from = to;
        }
        Ok(framing)
    }

    const REFUSED: [&str; 22] = [
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2 3\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n",
        "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\nearly\r\n",
    ];

    const ACCEPTED: [&str; 8] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\nPOST / HTTP/1.1\r\ncontent-length:\t2 \r\n\r\nab",
        "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n2;a=b\r\n\n\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nUpgradeable: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in REFUSED {
            assert!(follow(text, &[]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn whole_requests_leave_the_connection_at_rest() {
        for text in ACCEPTED {
            let framing = follow(text, &[]).unwrap_or_else(|reason| panic!("{text:?}: {reason}"));
            assert!(framing.is_at_rest(), "{text:?}: {framing:?}");
        }
    }

    #[test]
    fn the_refused_line_is_unreadable_and_nothing_behind_it_is_passed_on() {
        let mut bytes = *b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx";
        let refused = Framing::new().follow(&mut bytes).expect_err("refused");
        assert_eq!(bytes[refused.keep - 1], 0);
        assert!(bytes[..refused.keep].ends_with(b"Content-Length: 1\r\0"));
    }

    #[test]
    fn an_offered_upgrade_is_followed_by_http_or_by_anything() {
        let offer = "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n";
        let mut framing = follow(offer, &[]).expect("a request");
        assert!(framing.awaits_answer(0) && !framing.awaits_answer(1));
        framing.answered(false);
        assert!(framing.follow(&mut b"\x01\x02\n".to_vec()).is_err());
        let mut framing = follow(offer, &[]).expect("a request");
        framing.answered(true);
        assert!(framing.follow(&mut b"\x01\x02\n".to_vec()).is_ok());
    }

    #[test]
    fn a_line_that_comes_in_many_pieces_takes_little_memory() {
        let mut framing = follow("GET / HTTP/1.1\r\nX: ", &[]).expect("a head");
        for _ in 0..10_000 {
            framing.follow(&mut [b'a'; 64]).expect("a long value");
        }
        assert!(framing.line.len() <= LINE + 1);
        framing.follow(&mut b"\r\n\r\n".to_vec()).expect("its end");
        assert!(framing.is_at_rest());
    }

    proptest! {
        #[test]
        fn pieces_do_not_change_the_verdict(
            which in 0..REFUSED.len() + ACCEPTED.len(),
            mut cuts in prop::collection::vec(0_usize..400, 0..12),
        ) {
            let text = REFUSED.iter().chain(&ACCEPTED).nth(which).expect("in range");
            cuts.retain(|cut| *cut <= text.len());
            cuts.sort_unstable();
            prop_assert_eq!(follow(text, &cuts).is_err(), which < REFUSED.len());
        }

        #[test]
        fn any_bytes_are_followed_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Framing::new().follow(&mut bytes);
        }
    }
}
