//! The bytes that a nats-server sends to a worker: however they are cut, the same messages are taken out of them, the same
//! bytes go on, and together they are all of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nylon_fuzz::{cut, within};

#[allow(dead_code)]
#[path = "../../rust/py/src/worker/framer.rs"]
mod framer;

use framer::{Framer, Message};

/// The subscriptions that are ours.
fn ours(sid: u64) -> bool {
    sid == 1 || sid == 2
}

fn taken<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Vec<u8>) {
    let (mut framer, mut messages, mut rest) = (Framer::default(), Vec::new(), Vec::new());
    for piece in pieces {
        framer.feed(piece);
        while let Some(message) = framer.next(ours, &mut rest) {
            assert!(ours(message.sid));
            messages.push(message);
        }
    }
    (messages, rest)
}

fuzz_target!(|data: &[u8]| {
    let (stream, pieces) = cut(data);
    within((64 << 10) + 64 * data.len(), || {
        let whole = taken(std::iter::once(stream));
        let in_pieces = taken(pieces.into_iter().map(|piece| &stream[piece]));
        assert_eq!(whole, in_pieces);
        let (messages, rest) = whole;
        let payloads: usize = messages.iter().map(|message| message.payload.len()).sum();
        assert!(payloads + rest.len() <= stream.len());
        if messages.is_empty() {
            assert!(stream.starts_with(&rest), "what is not ours goes on as it came");
        }
    });
});
