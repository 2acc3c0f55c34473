//! A server that writes the frames of HTTP/2 that a test wants, and no others.

use crate::origin::Connection;
use std::io;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const ACK: u8 = 1;

pub(super) const REFUSED_STREAM: u32 = 7;

/// Setting 3, SETTINGS_MAX_CONCURRENT_STREAMS.
pub(super) const MAX_STREAMS: u16 = 3;
/// Setting 4, SETTINGS_INITIAL_WINDOW_SIZE.
pub(super) const WINDOW: u16 = 4;

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// The server's side of one connection.
pub(super) struct Frames<'c>(&'c mut Connection);

impl<'c> Frames<'c> {
    /// Reads the preface and sends these settings.
    pub(super) fn open(connection: &'c mut Connection, settings: &[(u16, u32)]) -> io::Result<Frames<'c>> {
        let mut preface = [0; 24];
        connection.read_exact(&mut preface)?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        let mut frames = Frames(connection);
        frames.write(SETTINGS, 0, 0, &payload)?;
        Ok(frames)
    }

    /// The next frame; an error at the end of the connection. Settings are acknowledged.
    pub(super) fn next(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head)?;
            let number = |bytes: &[u8]| bytes.iter().fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
            let mut payload = vec![0; number(&head[..3]) as usize];
            self.0.read_exact(&mut payload)?;
            let frame = Frame { kind: head[3], flags: head[4], stream: number(&head[5..]), payload };
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.write(SETTINGS, ACK, 0, &[])?;
            } else {
                return Ok(frame);
            }
        }
    }

    /// The next frame of this kind.
    pub(super) fn next_of(&mut self, kind: u8) -> io::Result<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    pub(super) fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write(frame)
    }

    /// Answers 200 with `body`.
    pub(super) fn answer(&mut self, stream: u32, body: &[u8]) -> io::Result<()> {
        // Entry 8 of the static table is `:status: 200`.
        self.write(HEADERS, END_HEADERS, stream, &[0x88])?;
        self.write(DATA, END_STREAM, stream, body)
    }

    pub(super) fn reset(&mut self, stream: u32, reason: u32) -> io::Result<()> {
        self.write(RST_STREAM, 0, stream, &reason.to_be_bytes())
    }

    /// Says goodbye: `last` is the last stream that was looked at.
    pub(super) fn go_away(&mut self, last: u32) -> io::Result<()> {
        self.write(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
    }
}
