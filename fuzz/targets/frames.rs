//! Every kind of frame: refused or read, never a panic; what is read can be written, and reads as the same again; and
//! no frame makes its reader hold much more than its own size.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nylon_core::{Context, Exchange, Phase};
use nylon_fuzz::within;
use nylon_wire::{
    Ack, BodyFrame, Busy, CallFrame, CallMeta, ChunkFrame, Claim, Close, CreditFrame, Envelope, Grant,
    Incoming, Info, Leave, Probe, ReadFrame, Refusal, Reply, Start, Stop, Unknown, encode_call, limits,
};

/// A head of 4,096 fields, or as many mutations, at their size in memory.
const ROOM: usize = 4 << 20;

fn encoded<E: std::fmt::Debug>(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Bytes {
    let mut out = Vec::new();
    encode(&mut out).expect("what was read can be written");
    out.into()
}

macro_rules! round_trip {
    ($frame:expr, $($kind:ident)*) => {$(
        if let Ok(read) = $kind::decode($frame) {
            let again = $kind::decode(&encoded(|out| read.encode(out)));
            assert_eq!(again.as_ref(), Ok(&read));
        }
    )*};
}

fn call(frame: &Bytes) {
    let Ok(read) = CallFrame::decode(frame) else { return };
    let Ok(ctx) = read.clone().into_context() else { return };
    let meta = CallMeta {
        id: read.id,
        session: read.session,
        plugin: read.plugin.as_str(),
        entry: read.entry.as_str(),
        remaining: read.remaining,
        claim: read.claim,
        traceparent: read.traceparent.as_deref(),
        inline_request_body: limits::MAX_FRAME,
        inline_response_body: limits::MAX_FRAME,
    };
    let written = encoded(|out| encode_call(out, &meta, ctx.call(), ctx.exchange()));
    let again = CallFrame::decode(&written).expect("what was written is read");
    assert_eq!((again.id, again.session, again.phase), (read.id, read.session, read.phase));
    assert_eq!((&again.plugin, &again.entry, again.attempt), (&read.plugin, &read.entry, read.attempt));
    assert_eq!((again.remaining, again.claim), (read.remaining, read.claim));
    assert_eq!(
        (&again.traceparent, &again.payload, &again.state),
        (&read.traceparent, &read.payload, &read.state)
    );
    let again = again.into_context().expect("what was written has its sections");
    same(&ctx, &again, read.phase == Phase::Logging);
}

fn same(one: &Context, other: &Context, logging: bool) {
    let (a, b): (&Exchange, &Exchange) = (one.exchange(), other.exchange());
    assert_eq!((a.facts.id, a.facts.scheme, &a.facts.host), (b.facts.id, b.facts.scheme, &b.facts.host));
    assert_eq!((a.facts.client_ip, a.facts.received_at), (b.facts.client_ip, b.facts.received_at));
    assert_eq!(a.facts.params, b.facts.params);
    assert_eq!((&a.request.method, &a.request.path), (&b.request.method, &b.request.path));
    assert_eq!((&a.request.query, a.request.version), (&b.request.query, b.request.version));
    assert_eq!((&a.request.headers, &a.request_body), (&b.request.headers, &b.request_body));
    assert_eq!((a.response.status, &a.response.headers), (b.response.status, &b.response.headers));
    assert_eq!((&a.response_body, &a.chunk), (&b.response_body, &b.chunk));
    if logging {
        assert_eq!(
            (a.sent.bytes, a.sent.duration, &a.sent.error),
            (b.sent.bytes, b.sent.duration, &b.sent.error)
        );
    }
}

fn reply(frame: &Bytes) {
    for (phase, streaming) in [
        (Phase::RequestFilter, false),
        (Phase::ResponseFilter, false),
        (Phase::ResponseBodyFilter, true),
        (Phase::Logging, false),
    ] {
        if let Ok(read) = Reply::decode(frame, phase, streaming) {
            let again = Reply::decode(&encoded(|out| read.encode(out)), phase, streaming);
            assert_eq!(again.as_ref(), Ok(&read));
        }
    }
}

fn info(frame: &Bytes) {
    let Ok(read) = Info::decode(frame) else { return };
    let words = read.metadata();
    let again = Info::from_metadata(words.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    // Words have no place for a name that holds none, and none for two entries of one name.
    assert!(again.is_ok_and(|again| again.entries.len() == read.entries.len()) || read.entries.is_empty());
}

/// What arrives of a body is never more than was announced.
fn parts(frame: &Bytes) {
    let part = match (BodyFrame::decode(frame), ChunkFrame::decode(frame)) {
        (Ok(BodyFrame { body: Ok(part), .. }), _) => part,
        (_, Ok(chunk)) => chunk.into_part(),
        _ => return,
    };
    let mut incoming = Incoming::new(limits::WINDOW);
    if incoming.take(&part, part.total) == Ok(true) {
        assert_eq!(incoming.into_body().len() as u64, part.total);
    }
}

fuzz_target!(|data: &[u8]| {
    let frame = Bytes::copy_from_slice(data);
    within(ROOM + 16 * data.len(), || {
        let _ = Envelope::peek(&frame);
        call(&frame);
        reply(&frame);
        info(&frame);
        parts(&frame);
        round_trip!(&frame, Ack Busy Unknown Claim Probe Grant ReadFrame BodyFrame ChunkFrame CreditFrame Close Info Leave Start Refusal Stop);
    });
});
