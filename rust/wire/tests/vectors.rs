//! The frames of `tests/vectors/nats-frames.json`, byte by byte: what this crate writes is what the file says, so
//! a change of the protocol shows as a change of the file. Whoever writes a worker in another language can test
//! against the same file. `NYLON_WRITE_VECTORS=1 cargo test -p nylon-wire --test vectors` writes it anew.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version};
use nylon_core::{
    Call, Chunk, Exchange, Failure, FailureKind, Op, Outcome, Params, Phase, PhaseMask, RequestBody,
    RequestFacts, RequestHead, RequestId, Scheme, TargetPart,
};
use nylon_wire::{
    Ack, BodyFrame, Busy, CallFrame, CallId, CallMeta, ChunkFrame, Claim, Close, CreditFrame, EntryInfo,
    EntryShape, Grant, Info, Leave, Part, Probe, ReadFrame, Reply, SessionId, Text, Unknown, Which,
    WireError, encode_call,
};
use rmp::Marker;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/nats-frames.json");
const ID: CallId = CallId([0xaa; 16]);

fn exchange() -> Exchange {
    let facts = RequestFacts {
        id: RequestId([7; 16]),
        scheme: Scheme::Https,
        host: "example.com:8443".parse().expect("authority"),
        client_ip: [192, 0, 2, 1].into(),
        received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        params: Params::new([("id", "4 2")]),
    };
    let mut headers = HeaderMap::new();
    headers.append("cookie", HeaderValue::from_static("a=1"));
    headers.append("cookie", HeaderValue::from_static("b=2"));
    headers.append("x-name", HeaderValue::from_bytes(b"caf\xe9").expect("field value"));
    let request = RequestHead {
        method: Method::POST,
        path: TargetPart::path("/items/4%202".into()).expect("path"),
        query: TargetPart::query("page=2".into()),
        version: Version::HTTP_11,
        headers,
    };
    Exchange::new(facts, request)
}

fn call(phase: Phase, change: impl FnOnce(&mut Exchange)) -> Vec<u8> {
    claimed_call(phase, false, change)
}

fn claimed_call(phase: Phase, claim: bool, change: impl FnOnce(&mut Exchange)) -> Vec<u8> {
    let mut exchange = exchange();
    change(&mut exchange);
    let meta = CallMeta {
        id: ID,
        session: SessionId([0xbb; 16]),
        plugin: "auth",
        entry: "check",
        remaining: Duration::from_millis(4_990),
        claim,
        traceparent: Some(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        inline_request_body: 16,
        inline_response_body: 16,
    };
    let (payload, state) = (Bytes::from_static(b"\x81\xa3key\xa1k"), Bytes::from_static(b"\x81\xa1n\x01"));
    frame(|out| encode_call(out, &meta, &Call { phase, payload, state, attempt: 2 }, &exchange))
}

fn frame(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out).expect("encode");
    out
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let worker = Text::from("w1");
    let shape = EntryShape {
        phases: PhaseMask::from_iter([Phase::RequestFilter, Phase::Logging]),
        request_body: true,
        stream: false,
        session: true,
        ..EntryShape::default()
    };
    let value = HeaderValue::from_static("1");
    let ops = vec![
        Op::method("PUT").expect("method"),
        Op::path("/new").expect("path"),
        Op::query("").expect("query"),
        Op::SetRequestHeader("x-user".parse().expect("name"), value.clone()),
        Op::AddRequestHeader("x-more".parse().expect("name"), value.clone()),
        Op::RemoveRequestHeader("cookie".parse().expect("name")),
        Op::SetRequestBody(Bytes::from_static(b"\x00\xff")),
        Op::status(201).expect("status"),
        Op::SetResponseHeader("etag".parse().expect("name"), value.clone()),
        Op::AddResponseHeader("set-cookie".parse().expect("name"), value),
        Op::RemoveResponseHeader("server".parse().expect("name")),
        Op::SetResponseBody(Bytes::from_static(b"done")),
    ];
    let state = Some(Bytes::from_static(b"\x80"));
    let reply =
        |outcome, ops, state, shape| Reply { ops, state, shape, ..Reply::new(ID, worker.clone(), outcome) };
    let raised = Outcome::Failed(Failure::new(FailureKind::Raised, "ValueError: boom"));
    let body = |body| BodyFrame { id: ID, which: Which::Request, body, remaining: Duration::from_millis(99) };
    let read = |up_to| ReadFrame { id: ID, worker: worker.clone(), which: Which::Request, up_to };
    let chunk = |which, number, total, data: &'static [u8], end| {
        let data = Bytes::from_static(data);
        ChunkFrame { id: ID, worker: worker.clone(), which, number, total, data, end }
    };
    let credit = |which, up_to| CreditFrame { id: ID, which, up_to };
    let why = Failure::new(FailureKind::Raised, "ValueError: boom");
    let gone = Failure::new(FailureKind::Cancelled, "the client went away");
    let refused = Failure::new(FailureKind::BodyTooLarge, "over 10 MiB");
    let entries = vec![EntryInfo { name: "check".into(), shape }];
    let info = Info {
        worker: worker.clone(),
        group: "g".into(),
        software: "0.1.0".into(),
        concurrency: 64,
        entries,
    };
    vec![
        ("call in request_filter", call(Phase::RequestFilter, |_| {})),
        (
            "call in request_filter with a body that is larger than what travels along",
            call(Phase::RequestFilter, |e| e.request_body = RequestBody::Read(Bytes::from_static(&[1; 17]))),
        ),
        ("call in request_filter that must be claimed", claimed_call(Phase::RequestFilter, true, |_| {})),
        (
            "call in response_body_filter by chunk",
            call(Phase::ResponseBodyFilter, |e| {
                e.chunk = Some(Chunk { data: Bytes::from_static(b"part"), end_of_stream: true });
            }),
        ),
        (
            "call in logging",
            call(Phase::Logging, |e| {
                (e.sent.bytes, e.sent.duration) = (5, Some(Duration::from_micros(250)));
                e.sent.error = Some("upstream reset".into());
            }),
        ),
        (
            "reply that ends, with every mutation of a head",
            frame(|o| reply(Outcome::End, ops, state, Some(shape)).encode(o)),
        ),
        ("reply that goes on", frame(|o| reply(Outcome::Next, vec![], None, None).encode(o))),
        ("reply of a handler that raised", frame(|o| reply(raised, vec![], None, None).encode(o))),
        ("ack", frame(|o| Ack { id: ID, worker: worker.clone() }.encode(o))),
        ("busy", frame(|o| Busy { id: ID, worker: worker.clone() }.encode(o))),
        (
            "reply whose response body came before it, in chunks",
            frame(|o| {
                let (ops, apart) = (vec![Op::SetResponseBody(Bytes::new())], vec![(0, 1 << 20)]);
                Reply { ops, apart, ..Reply::new(ID, worker.clone(), Outcome::End) }.encode(o)
            }),
        ),
        (
            "reply that begins a stream",
            frame(|o| {
                let ops = vec![Op::status(200).expect("status")];
                Reply { streams: true, ops, ..Reply::new(ID, worker.clone(), Outcome::End) }.encode(o)
            }),
        ),
        ("read", frame(|o| read(None).encode(o))),
        ("read in parts", frame(|o| read(Some(8)).encode(o))),
        ("body", frame(|o| body(Ok(Part::whole(Bytes::from_static(b"abc")))).encode(o))),
        (
            "body, its second part",
            frame(|o| {
                body(Ok(Part { number: 1, total: 300_000, data: Bytes::from_static(b"abc") })).encode(o)
            }),
        ),
        ("body that is refused", frame(|o| body(Err(refused)).encode(o))),
        ("chunk of a body", frame(|o| chunk(Which::Response, 1, 300_000, b"abc", None).encode(o))),
        ("chunk of a stream", frame(|o| chunk(Which::Stream, 0, 0, b"abc", None).encode(o))),
        ("chunk that ends a stream", frame(|o| chunk(Which::Stream, 1, 0, b"", Some(Ok(()))).encode(o))),
        (
            "chunk that breaks a stream off",
            frame(|o| chunk(Which::Stream, 1, 0, b"", Some(Err(why.clone()))).encode(o)),
        ),
        ("credit", frame(|o| credit(Which::Response, Ok(9)).encode(o))),
        ("credit that ends a transfer", frame(|o| credit(Which::Stream, Err(gone)).encode(o))),
        ("probe", frame(|o| Probe { id: ID }.encode(o))),
        ("unknown", frame(|o| Unknown { id: ID, worker: worker.clone() }.encode(o))),
        ("claim", frame(|o| Claim { id: ID, worker: worker.clone() }.encode(o))),
        ("grant", frame(|o| Grant { id: ID, granted: true }.encode(o))),
        ("close", frame(|o| Close { session: SessionId([0xbb; 16]) }.encode(o))),
        ("info", frame(|o| info.encode(o))),
        ("leave", frame(|o| Leave { worker: worker.clone(), group: "g".into() }.encode(o))),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// MessagePack as JSON; a binary is `{"bin": hex}`.
fn meaning(rest: &mut &[u8]) -> Value {
    let (first, after) = rest.split_first().expect("a value");
    *rest = after;
    let mut bytes = |count: usize| {
        let (taken, after) = rest.split_at(count);
        *rest = after;
        taken
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    let text = |bytes: &[u8]| Value::from(std::str::from_utf8(bytes).expect("UTF-8"));
    match Marker::from_u8(*first) {
        Marker::FixPos(value) => value.into(),
        Marker::U8 => number(bytes(1)).into(),
        Marker::U16 => number(bytes(2)).into(),
        Marker::U32 => number(bytes(4)).into(),
        Marker::U64 => number(bytes(8)).into(),
        Marker::True => true.into(),
        Marker::False => false.into(),
        Marker::FixStr(len) => text(bytes(len.into())),
        Marker::Str8 => {
            let len = bytes(1)[0];
            text(bytes(len.into()))
        }
        Marker::Bin8 => {
            let len = bytes(1)[0];
            json!({"bin": hex(bytes(len.into()))})
        }
        Marker::FixArray(len) => (0..len).map(|_| meaning(rest)).collect(),
        Marker::Map16 => {
            let len = number(bytes(2));
            let pairs = (0..len).map(|_| {
                let key = meaning(rest);
                (key.as_str().expect("a key is text").to_owned(), meaning(rest))
            });
            Value::Object(pairs.collect())
        }
        other => panic!("the vectors have no {other:?}"),
    }
}

#[test]
fn frames_are_byte_by_byte_those_of_the_vectors() {
    let vectors: Vec<Value> = frames()
        .iter()
        .map(|(name, frame)| {
            let mut rest = frame.as_slice();
            let vector = json!({"name": name, "frame": meaning(&mut rest), "hex": hex(frame)});
            assert!(rest.is_empty());
            vector
        })
        .collect();
    if std::env::var_os("NYLON_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&vectors).expect("JSON");
        std::fs::write(FILE, text + "\n").expect("write the vectors");
    }
    let written = std::fs::read_to_string(FILE).expect("tests/vectors/nats-frames.json");
    let written: Vec<Value> = serde_json::from_str(&written).expect("JSON");
    assert_eq!(written.len(), vectors.len());
    for (written, now) in written.iter().zip(&vectors) {
        assert_eq!(written, now);
    }
}

#[test]
fn every_call_of_the_vectors_is_read() {
    for (name, frame) in frames().into_iter().filter(|(name, _)| name.starts_with("call")) {
        let call = CallFrame::decode(&Bytes::from(frame)).expect(name);
        let ctx = call.into_context().expect(name);
        assert_eq!(ctx.exchange().request.headers.get_all("cookie").iter().count(), 2, "{name}");
        assert_eq!(ctx.exchange().request.headers["x-name"].as_bytes(), b"caf\xe9", "{name}");
    }
}
