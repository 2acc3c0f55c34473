//! The bytes that a client sends to the gateway: however they are cut, they are refused at the same place for the same
//! reason, and changed nowhere else.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nylon_fuzz::{cut, within};

#[allow(dead_code)]
#[path = "../../rust/gateway/src/downstream/framing.rs"]
mod framing;

use framing::Framing;

/// How far the bytes may be read, and why no further.
fn followed(stream: &[u8], pieces: &[std::ops::Range<usize>]) -> Option<(usize, &'static str)> {
    let mut framing = Framing::new();
    for piece in pieces {
        let mut bytes = stream[piece.clone()].to_vec();
        if let Err(refused) = framing.follow(&mut bytes) {
            assert!(refused.keep <= bytes.len());
            return Some((piece.start + refused.keep, refused.reason));
        }
        assert_eq!(bytes, stream[piece.clone()], "bytes that are not refused go on as they came");
    }
    None
}

fuzz_target!(|data: &[u8]| {
    let (stream, pieces) = cut(data);
    within((64 << 10) + 16 * data.len(), || {
        let whole = followed(stream, &[0..stream.len()]);
        assert_eq!(whole, followed(stream, &pieces));
    });
});
