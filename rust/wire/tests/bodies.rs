//! Bodies that do not travel inside a call or a reply: cut into parts, put together again, and named by their size.

use bytes::Bytes;
use nylon_core::{Op, Outcome, Phase};
use nylon_wire::{CallId, ChunkFrame, Incoming, Outgoing, Part, Reply, Text, Which, WireError, limits};
use proptest::collection::vec;
use proptest::prelude::*;

fn encoded(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) -> Bytes {
    let mut out = Vec::new();
    encode(&mut out).expect("encode");
    Bytes::from(out)
}

proptest! {
    #[test]
    fn a_body_in_parts_arrives_whole_whatever_the_size_of_its_parts(
        body in vec(any::<u8>(), 1..3_000), max_payload in 2usize..2_000
    ) {
        let mut outgoing = Outgoing::new(body.clone().into(), max_payload, 1);
        let mut incoming = Incoming::new(1);
        let mut complete = false;
        while !complete {
            let part = outgoing.next().expect("the receiver always gives room for the next part");
            prop_assert!(part.data.len() <= max_payload);
            complete = incoming.take(&part, body.len() as u64).expect("a good part");
            incoming.room().into_iter().for_each(|up_to| outgoing.grant(up_to));
        }
        prop_assert!(outgoing.is_done());
        prop_assert_eq!(incoming.into_body(), body);
    }

    #[test]
    fn parts_in_any_order_never_make_a_body_that_was_not_sent(
        numbers in vec(0u64..6, 1..12), sizes in vec(0usize..40, 12), total in 1u64..120
    ) {
        let mut incoming = Incoming::new(4);
        let mut taken = Vec::new();
        for (number, size) in numbers.into_iter().zip(sizes) {
            let part = Part { number, total, data: vec![number as u8; size].into() };
            match incoming.take(&part, 100) {
                Ok(complete) => {
                    taken.extend_from_slice(&part.data);
                    if complete {
                        prop_assert_eq!(taken.len() as u64, total);
                        prop_assert_eq!(incoming.into_body(), taken);
                        return Ok(());
                    }
                }
                Err(_) => return Ok(()),
            }
        }
    }
}

#[test]
fn a_large_body_travels_before_its_reply_and_comes_back_where_it_was() {
    let large = |byte| Bytes::from(vec![byte; 100]);
    let sent = Reply {
        ops: vec![
            Op::SetRequestBody(large(1)),
            Op::status(201).expect("status"),
            Op::SetResponseBody(Bytes::from_static(b"small")),
            Op::SetRequestBody(large(2)),
        ],
        ..Reply::new(CallId([1; 16]), "w".into(), Outcome::End)
    };
    let mut reply = sent.clone();
    let bodies = reply.take_apart(99);
    assert_eq!(bodies, [(Which::Request, large(2))], "of two the last one counts");
    let frame = encoded(|out| reply.encode(out));
    assert!(frame.len() < 100);
    let read = || Reply::decode(&frame, Phase::RequestFilter, false).expect("decode");
    assert_eq!(read().apart, [(2, 100)]);
    let mut whole = read();
    whole.put_back(|which| (which == Which::Request).then(|| large(2))).expect("it came");
    assert_eq!(whole.ops, sent.ops[1..]);
    assert!(read().put_back(|_| None).is_err(), "it did not come");
    assert!(read().put_back(|_| Some(large(2).slice(1..))).is_err(), "another size came");
}

#[test]
fn only_a_request_filter_streams() {
    let reply = Reply { streams: true, ..Reply::new(CallId([1; 16]), "w".into(), Outcome::End) };
    let frame = encoded(|out| reply.encode(out));
    assert_eq!(Reply::decode(&frame, Phase::RequestFilter, false), Ok(reply));
    assert!(Reply::decode(&frame, Phase::ResponseFilter, false).is_err());
}

#[test]
fn a_chunk_over_its_limit_is_neither_written_nor_read() {
    let data = Bytes::from(vec![1; limits::MAX_PART + 1]);
    let (id, worker, which) = (CallId([1; 16]), Text::from("w"), Which::Stream);
    let mut chunk = ChunkFrame { id, worker, which, number: 0, total: 0, data, end: None };
    assert!(chunk.encode(&mut Vec::new()).is_err());
    chunk.data = Bytes::from(vec![1; limits::MAX_PART]);
    assert!(ChunkFrame::decode(&encoded(|out| chunk.encode(out))).is_ok());
}
