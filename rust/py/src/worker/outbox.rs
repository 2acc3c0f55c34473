//! What a worker has to publish and nats-py has not been given yet.
//!
//! Answers gather here as complete `PUB` commands, so that all that one wake-up of the loop produced leaves in
//! one write, whichever thread produced it. The same box serves the plain path: there the commands are taken
//! apart again into subject and payload, by the marks kept beside them.
//!
//! Two limits hold: a payload over the server's `max_payload` is refused, because the server would cut the
//! connection for good; and what waits while the connection is away or its peer does not read is bounded.

use std::ops::Range;

/// Most bytes that wait for a connection: a reply of the largest kind for each call that a worker runs by default, and
/// as much again. A gateway asks again for a reply that got lost, so what does not fit is better dropped and counted
/// than kept without end.
const MAX_WAITING: usize = 32 << 20;
/// Most bytes of a body's parts among them: they are in no hurry, and must not keep a reply out.
const MAX_PARTS: usize = 8 << 20;
/// So many bytes are written at once, without waiting for the end of a batch.
const ENOUGH: usize = 1 << 20;
/// What nats-server allows if it has not said anything else.
const DEFAULT_MAX_PAYLOAD: usize = 1 << 20;
/// A buffer that grew beyond this is given back after it was written.
const KEPT_CAPACITY: usize = 1 << 18;

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Over the server's `max_payload`.
    TooLarge {
        /// The most that it takes.
        limit: usize,
    },
    /// Too much is waiting already.
    Full,
}

/// One command, taken apart.
#[derive(Debug, Clone)]
struct Mark {
    subject: Range<usize>,
    reply: Range<usize>,
    payload: Range<usize>,
}

/// One publication for the plain path: subject, reply subject (empty for none), payload.
pub(crate) type Publication<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Commands that wait to be written.
#[derive(Debug)]
pub(crate) struct Outbox {
    commands: Vec<u8>,
    marks: Option<Vec<Mark>>,
    max_payload: usize,
    dropped: u64,
}

impl Outbox {
    /// An empty box; `marked` if it is emptied by [`Outbox::publications`].
    pub(crate) fn new(marked: bool) -> Outbox {
        let marks = marked.then(Vec::new);
        Outbox { commands: Vec::new(), marks, max_payload: DEFAULT_MAX_PAYLOAD, dropped: 0 }
    }

    /// What the server said it takes.
    pub(crate) fn set_max_payload(&mut self, bytes: usize) {
        self.max_payload = bytes;
    }

    /// What the server said it takes.
    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Whether a part of a body of about so many bytes would be taken.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.commands.len() + bytes <= MAX_PARTS
    }

    /// Whether there is enough for a write of its own.
    pub(crate) fn has_enough(&self) -> bool {
        self.commands.len() >= ENOUGH
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Publications dropped because too much was waiting.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds a publication. The subjects must be legal ones: they come from the server or from our own name.
    pub(crate) fn publish(&mut self, subject: &[u8], reply: &[u8], payload: &[u8]) -> Result<(), Refused> {
        if payload.len() > self.max_payload {
            return Err(Refused::TooLarge { limit: self.max_payload });
        }
        let out = &mut self.commands;
        if out.len() + payload.len() > MAX_WAITING {
            self.dropped += 1;
            return Err(Refused::Full);
        }
        let append = |out: &mut Vec<u8>, text: &[u8]| {
            let start = out.len();
            out.extend_from_slice(text);
            start..out.len()
        };
        out.extend_from_slice(b"PUB ");
        let subject = append(out, subject);
        out.push(b' ');
        let reply = append(out, reply);
        if !reply.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(itoa::Buffer::new().format(payload.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        let payload = append(out, payload);
        out.extend_from_slice(b"\r\n");
        if let Some(marks) = &mut self.marks {
            marks.push(Mark { subject, reply, payload });
        }
        Ok(())
    }

    /// All commands, to be written as they are.
    pub(crate) fn commands(&self) -> &[u8] {
        &self.commands
    }

    /// All publications, where the box was made to be read so.
    pub(crate) fn publications(&self) -> impl Iterator<Item = Publication<'_>> {
        let part = |range: &Range<usize>| &self.commands[range.clone()];
        self.marks.iter().flatten().map(move |m| (part(&m.subject), part(&m.reply), part(&m.payload)))
    }

    /// Forgets what was written.
    pub(crate) fn clear(&mut self) {
        if self.commands.capacity() > KEPT_CAPACITY {
            self.commands = Vec::new();
        }
        self.commands.clear();
        if let Some(marks) = &mut self.marks {
            marks.clear();
        }
    }
}
