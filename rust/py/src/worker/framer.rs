//! Splits the byte stream of a NATS connection into messages of our subscriptions and everything else.
//!
//! nats-py owns the connection, so only complete messages of the subscriptions that were registered here are
//! taken out of the stream; every other byte (INFO, PING, `-ERR`, other subscriptions) goes on to nats-py as it
//! came. What cannot be understood goes on too, and so does all that follows until the next connection: nats-py
//! then reports the broken stream and reconnects, which this side could not do.

use bytes::{Buf, Bytes, BytesMut};

/// Longest control line that is waited for; a server's default is 4 KiB, its INFO may be longer.
const MAX_LINE: usize = 1 << 20;

/// A message of one of our subscriptions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Which subscription it came by.
    pub(crate) sid: u64,
    /// Where an answer goes; empty where none is wanted.
    pub(crate) reply: Bytes,
    /// The payload, without headers.
    pub(crate) payload: Bytes,
    /// A status of the server (headers, no payload), such as "no responders": nobody sent this.
    pub(crate) is_status: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A control line comes next.
    #[default]
    Line,
    /// So many bytes of somebody else's message are still to go on.
    PassOn(usize),
    /// The stream made no sense: all of it goes on.
    Lost,
}

/// What the start of the buffer is.
enum Next {
    /// More bytes are needed.
    Wait,
    /// So many bytes are not ours.
    PassOn(usize),
    /// A message of ours: the length of its line and its parts.
    Ours(usize, Parts),
    /// Not the NATS protocol.
    Lost,
}

struct Parts {
    sid: u64,
    reply: std::ops::Range<usize>,
    headers: usize,
    total: usize,
}

/// The splitter of one connection.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    buffer: BytesMut,
    state: State,
}

impl Framer {
    /// Takes in what was received.
    pub(crate) fn feed(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next complete message whose subscription `ours` claims; what is not ours is appended to `rest`.
    /// `None` = more bytes are needed.
    pub(crate) fn next(&mut self, ours: impl Fn(u64) -> bool, rest: &mut Vec<u8>) -> Option<Message> {
        loop {
            match self.state {
                State::Line => {}
                State::Lost => {
                    rest.extend_from_slice(&self.buffer);
                    self.buffer.clear();
                    return None;
                }
                State::PassOn(left) => {
                    let now = left.min(self.buffer.len());
                    rest.extend_from_slice(&self.buffer[..now]);
                    self.buffer.advance(now);
                    if now < left {
                        self.state = State::PassOn(left - now);
                        return None;
                    }
                    self.state = State::Line;
                }
            }
            match classify(&self.buffer, &ours) {
                Next::Wait => return None,
                Next::PassOn(length) => self.state = State::PassOn(length),
                Next::Lost => self.state = State::Lost,
                Next::Ours(line, parts) => {
                    let reply = Bytes::copy_from_slice(&self.buffer[parts.reply]);
                    self.buffer.advance(line + parts.headers);
                    let payload = self.buffer.split_to(parts.total - parts.headers).freeze();
                    self.buffer.advance(2);
                    let is_status = parts.headers > 0 && payload.is_empty();
                    return Some(Message { sid: parts.sid, reply, payload, is_status });
                }
            }
        }
    }
}

fn classify(buffer: &[u8], ours: impl Fn(u64) -> bool) -> Next {
    let Some(newline) = memchr::memchr(b'\n', buffer) else {
        return if buffer.len() > MAX_LINE { Next::Lost } else { Next::Wait };
    };
    let line = newline + 1;
    let (start, sizes) = match buffer {
        [b'M', b'S', b'G', b' ' | b'\t', ..] => (4, 1),
        [b'H', b'M', b'S', b'G', b' ' | b'\t', ..] => (5, 2),
        _ => return Next::PassOn(line),
    };
    let Some(parts) = message(buffer, start, newline, sizes) else { return Next::Lost };
    let Some(end) = parts.total.checked_add(line + 2) else { return Next::Lost };
    if !ours(parts.sid) {
        Next::PassOn(end)
    } else if buffer.len() < end {
        Next::Wait
    } else if &buffer[end - 2..end] != b"\r\n" {
        Next::Lost
    } else {
        Next::Ours(line, parts)
    }
}

/// Reads `subject sid [reply] [header size] size`.
fn message(buffer: &[u8], start: usize, newline: usize, sizes: usize) -> Option<Parts> {
    let mut words: [std::ops::Range<usize>; 5] = Default::default();
    let mut count = 0;
    let mut at = start;
    while at < newline {
        if buffer[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let length = buffer[at..newline].iter().position(u8::is_ascii_whitespace).unwrap_or(newline - at);
        *words.get_mut(count)? = at..at + length;
        count += 1;
        at += length;
    }
    let reply = match count.checked_sub(sizes + 2)? {
        0 => 0..0,
        1 => words[2].clone(),
        _ => return None,
    };
    let number = |word: usize| {
        let text = &buffer[words[word].clone()];
        // Nineteen digits always fit.
        if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(text.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    };
    let total = usize::try_from(number(count - 1)?).ok()?;
    let headers = if sizes == 2 { usize::try_from(number(count - 2)?).ok()? } else { 0 };
    (headers <= total).then_some(Parts { sid: number(1)?, reply, headers, total })
}
