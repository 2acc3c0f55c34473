//! What one side encodes, the other decodes to the same; what nobody encoded is refused without a panic.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use nylon_core::{
    Call, Chunk, Exchange, Failure, FailureKind, Op, Outcome, Params, Phase, PhaseMask, RequestBody,
    RequestFacts, RequestHead, RequestId, ResponseBody, ResponseHead, Scheme, Sent, TargetPart,
};
use nylon_wire::{
    Ack, BodyFrame, BodyPart, Busy, CallFrame, CallId, CallMeta, ChunkFrame, Claim, Close, CreditFrame,
    EntryInfo, EntryShape, Envelope, Grant, Info, Kind, Leave, Part, Probe, ReadFrame, Refusal, Reply,
    SessionId, Start, Stop, Text, Unknown, Which, WireError, encode_call, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::time::{Duration, SystemTime};

fn encoded(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) -> Bytes {
    let mut out = Vec::new();
    encode(&mut out).expect("encode");
    Bytes::from(out)
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn name() -> impl Strategy<Value = HeaderName> {
    prop_oneof![
        Just(HeaderName::from_static("cookie")),
        Just(HeaderName::from_static("set-cookie")),
        "[a-z][a-z0-9-]{0,20}".prop_map(|text| HeaderName::from_bytes(text.as_bytes()).expect("token")),
    ]
}

fn value() -> impl Strategy<Value = HeaderValue> {
    vec(prop_oneof![Just(b'\t'), 0x20u8..0x7f, 0x80u8..], 0..40)
        .prop_map(|raw| HeaderValue::from_bytes(&raw).expect("field value"))
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    vec((name(), value()), 0..20).prop_map(|pairs| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    })
}

fn path() -> impl Strategy<Value = TargetPart> {
    "/[a-zA-Z0-9/%._~-]{0,60}".prop_map(|text| TargetPart::path(text.into()).expect("path"))
}

fn query() -> impl Strategy<Value = Option<TargetPart>> {
    proptest::option::of("[a-z=&?0-9]{1,40}".prop_map(|text| TargetPart::query(text.into()).expect("query")))
}

fn facts() -> impl Strategy<Value = RequestFacts> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
        any::<[u8; 16]>().prop_map(std::net::IpAddr::from)
    ];
    let param = (".{0,8}", ".{0,8}");
    (any::<[u8; 16]>(), any::<bool>(), "[a-z]{1,9}(:80)?", ip, 0u64..1 << 62, vec(param, 0..4)).prop_map(
        |(id, tls, host, client_ip, at, params)| RequestFacts {
            id: RequestId(id),
            scheme: if tls { Scheme::Https } else { Scheme::Http },
            host: host.parse().expect("authority"),
            client_ip,
            received_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(at),
            params: Params::new(params),
        },
    )
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let method =
        prop_oneof![Just(Method::GET), Just(Method::POST), Just(Method::from_bytes(b"PURGE").expect("m"))];
    let version = prop_oneof![Just(Version::HTTP_10), Just(Version::HTTP_11), Just(Version::HTTP_2)];
    let request =
        (method, path(), query(), version, headers()).prop_map(|(method, path, query, version, headers)| {
            RequestHead { method, path, query, version, headers }
        });
    let request_body = prop_oneof![Just(RequestBody::Unread), bytes(80).prop_map(RequestBody::Read)];
    let response_body = prop_oneof![Just(ResponseBody::Streaming), bytes(80).prop_map(ResponseBody::Read)];
    let response = (200u16..600, headers()).prop_map(|(status, headers)| ResponseHead {
        status: StatusCode::from_u16(status).expect("status"),
        headers,
    });
    let chunk = proptest::option::of(
        (bytes(80), any::<bool>()).prop_map(|(data, end_of_stream)| Chunk { data, end_of_stream }),
    );
    let sent = (any::<u64>(), proptest::option::of(0u64..1 << 60), proptest::option::of(".{0,30}")).prop_map(
        |(bytes, nanos, error)| Sent {
            bytes,
            duration: nanos.map(Duration::from_nanos),
            error: error.map(Into::into),
        },
    );
    (facts(), request, request_body, response, response_body, chunk, sent).prop_map(
        |(facts, request, request_body, response, response_body, chunk, sent)| Exchange {
            facts,
            request,
            request_body,
            response,
            response_body,
            chunk,
            sent,
        },
    )
}

fn phase() -> impl Strategy<Value = Phase> {
    (1u8..5).prop_map(|number| Phase::from_number(number).expect("phase"))
}

fn op() -> impl Strategy<Value = Op> {
    let status = |code| StatusCode::from_u16(code).expect("status");
    prop_oneof![
        "[A-Z]{1,9}".prop_map(|text| Op::method(&text).expect("method")),
        path().prop_map(Op::SetPath),
        query().prop_map(Op::SetQuery),
        (name(), value()).prop_map(|(name, value)| Op::SetRequestHeader(name, value)),
        (name(), value()).prop_map(|(name, value)| Op::AddRequestHeader(name, value)),
        name().prop_map(Op::RemoveRequestHeader),
        bytes(300).prop_map(Op::SetRequestBody),
        (200u16..600).prop_map(move |code| Op::SetStatus(status(code))),
        (name(), value()).prop_map(|(name, value)| Op::SetResponseHeader(name, value)),
        (name(), value()).prop_map(|(name, value)| Op::AddResponseHeader(name, value)),
        name().prop_map(Op::RemoveResponseHeader),
        bytes(300).prop_map(Op::SetResponseBody),
    ]
}

fn shape() -> impl Strategy<Value = EntryShape> {
    (0u8..16, any::<[bool; 3]>()).prop_map(|(phases, [request_body, stream, session])| EntryShape {
        phases: PhaseMask::from_bits(phases),
        request_body,
        stream,
        session,
        ..EntryShape::default()
    })
}

fn meta<'a>() -> CallMeta<'a> {
    CallMeta {
        id: CallId([1; 16]),
        session: SessionId([2; 16]),
        plugin: "auth",
        entry: "check",
        remaining: Duration::from_millis(4_990),
        claim: true,
        traceparent: Some(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        inline_request_body: limits::INLINE_BODY,
        inline_response_body: limits::INLINE_BODY,
    }
}

fn plain_exchange() -> Exchange {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut plain = exchange().new_tree(&mut runner).expect("exchange").current();
    (plain.request_body, plain.response_body) = (RequestBody::Unread, ResponseBody::Streaming);
    plain.response = ResponseHead::default();
    plain.chunk = None;
    plain
}

fn plain_call(phase: Phase) -> Call {
    Call { phase, payload: Bytes::new(), state: Bytes::new(), attempt: 1 }
}

proptest! {
    #[test]
    fn a_call_arrives_as_it_was_sent(
        sent in exchange(), phase in phase(), payload in bytes(60), state in bytes(60), attempt in any::<u32>()
    ) {
        let call = Call { phase, payload, state, attempt };
        let frame = encoded(|out| encode_call(out, &meta(), &call, &sent));
        let peeked = Envelope::peek(&frame).expect("peek");
        prop_assert_eq!((peeked.kind, peeked.id), (Kind::Call, Some(CallId([1; 16]))));
        let decoded = CallFrame::decode(&frame).expect("decode");
        prop_assert_eq!((decoded.id, decoded.session), (meta().id, meta().session));
        prop_assert_eq!((decoded.plugin.as_str(), decoded.entry.as_str()), ("auth", "check"));
        prop_assert_eq!((decoded.phase, decoded.attempt), (phase, attempt));
        prop_assert_eq!(decoded.remaining, meta().remaining);
        prop_assert_eq!(decoded.traceparent.as_deref(), meta().traceparent);
        prop_assert_eq!(decoded.is_streaming(), sent.chunk.is_some());
        let ctx = decoded.into_context().expect("sections");
        prop_assert_eq!((&ctx.call().payload, ctx.state()), (&call.payload, &call.state));
        let got = ctx.exchange();
        prop_assert_eq!(got.facts.id, sent.facts.id);
        prop_assert_eq!(got.facts.scheme, sent.facts.scheme);
        prop_assert_eq!(&got.facts.host, &sent.facts.host);
        prop_assert_eq!(got.facts.client_ip, sent.facts.client_ip);
        prop_assert_eq!(got.facts.received_at, sent.facts.received_at);
        prop_assert_eq!(&got.facts.params, &sent.facts.params);
        prop_assert_eq!(&got.request.method, &sent.request.method);
        prop_assert_eq!(&got.request.path, &sent.request.path);
        prop_assert_eq!(&got.request.query, &sent.request.query);
        prop_assert_eq!(got.request.version, sent.request.version);
        prop_assert_eq!(&got.request.headers, &sent.request.headers);
        prop_assert_eq!(&got.request_body, &sent.request_body);
        prop_assert_eq!(got.response.status, sent.response.status);
        prop_assert_eq!(&got.response.headers, &sent.response.headers);
        prop_assert_eq!(&got.response_body, &sent.response_body);
        prop_assert_eq!(&got.chunk, &sent.chunk);
        if phase == Phase::Logging {
            prop_assert_eq!(got.sent.bytes, sent.sent.bytes);
            prop_assert_eq!(got.sent.duration, sent.sent.duration);
            prop_assert_eq!(&got.sent.error, &sent.sent.error);
        }
    }

    #[test]
    fn a_reply_arrives_as_it_was_sent(
        ops in vec(op(), 0..12), end in any::<bool>(), state in proptest::option::of(bytes(60)), shape in shape()
    ) {
        let outcome = if end { Outcome::End } else { Outcome::Next };
        let sent =
            Reply { ops, state, shape: Some(shape), ..Reply::new(CallId([9; 16]), "w1".into(), outcome) };
        let frame = encoded(|out| sent.encode(out));
        prop_assert_eq!(Reply::decode(&frame, Phase::RequestFilter, false).expect("decode"), sent);
    }

    #[test]
    fn an_announcement_arrives_as_it_was_sent(
        entries in proptest::collection::btree_map("[a-z_]{1,12}", shape(), 0..6), concurrency in any::<u32>()
    ) {
        let entries = entries.into_iter().map(|(name, shape)| EntryInfo { name, shape }).collect();
        let sent = Info { worker: "w1".into(), group: "g".into(), software: "0.1.0".into(), concurrency, entries };
        let frame = encoded(|out| sent.encode(out));
        prop_assert_eq!(&Info::decode(&frame).expect("decode"), &sent);
        let words = sent.metadata();
        let pairs = words.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        prop_assert_eq!(Info::from_metadata(pairs).expect("metadata"), sent);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(raw in vec(any::<u8>(), 0..400)) {
        decode_everything(&Bytes::from(raw));
    }

    #[test]
    fn a_damaged_frame_is_refused_or_read_but_never_panics(
        sent in exchange(), ops in vec(op(), 0..6), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()
    ) {
        let call = encoded(|out| encode_call(out, &meta(), &plain_call(Phase::Logging), &sent));
        let reply = Reply { ops, ..Reply::new(CallId([9; 16]), "w1".into(), Outcome::End) };
        for frame in [call, encoded(|out| reply.encode(out))] {
            let mut raw = frame.to_vec();
            let at = at.index(raw.len());
            if cut { raw.truncate(at) } else { raw[at] = with }
            decode_everything(&Bytes::from(raw));
        }
    }
}

fn decode_everything(frame: &Bytes) {
    let _ = Envelope::peek(frame);
    if let Ok(call) = CallFrame::decode(frame) {
        let _ = call.into_context();
    }
    for phase in Phase::ALL {
        let _ = Reply::decode(frame, phase, false);
    }
    let _ = (Ack::decode(frame), Busy::decode(frame), ReadFrame::decode(frame), BodyFrame::decode(frame));
    let _ = (ChunkFrame::decode(frame), CreditFrame::decode(frame));
    let _ = (Probe::decode(frame), Unknown::decode(frame), Claim::decode(frame), Grant::decode(frame));
    let _ = (Close::decode(frame), Info::decode(frame), Leave::decode(frame));
    let _ = (Start::decode(frame), Refusal::decode(frame), Stop::decode(frame));
}

#[test]
fn small_frames_round_trip() {
    let (id, worker) = (CallId([3; 16]), Text::from("w1"));
    let ack = Ack { id, worker: worker.clone() };
    assert_eq!(Ack::decode(&encoded(|out| ack.encode(out))), Ok(ack));
    let busy = Busy { id, worker: worker.clone() };
    assert_eq!(Busy::decode(&encoded(|out| busy.encode(out))), Ok(busy));
    let unknown = Unknown { id, worker: worker.clone() };
    assert_eq!(Unknown::decode(&encoded(|out| unknown.encode(out))), Ok(unknown));
    let claim = Claim { id, worker: worker.clone() };
    assert_eq!(Claim::decode(&encoded(|out| claim.encode(out))), Ok(claim));
    assert_eq!(Probe::decode(&encoded(|out| Probe { id }.encode(out))), Ok(Probe { id }));
    for granted in [true, false] {
        let grant = Grant { id, granted };
        assert_eq!(Grant::decode(&encoded(|out| grant.encode(out))), Ok(grant));
    }
    for up_to in [None, Some(0), Some(u64::MAX)] {
        let read = ReadFrame { id, worker: worker.clone(), which: Which::Response, up_to };
        assert_eq!(ReadFrame::decode(&encoded(|out| read.encode(out))), Ok(read));
    }
    let failure = Failure::new(FailureKind::BodyTooLarge, "11 MiB");
    let part = Part { number: 3, total: 1 << 40, data: Bytes::from_static(b"abc") };
    for body in [Ok(Part::whole(Bytes::new())), Ok(part), Err(failure.clone())] {
        let body = BodyFrame { id, which: Which::Request, body, remaining: Duration::from_millis(17) };
        assert_eq!(BodyFrame::decode(&encoded(|out| body.encode(out))), Ok(body));
    }
    for which in [Which::Request, Which::Response, Which::Chunk, Which::Stream] {
        let total = if which == Which::Stream { 0 } else { 1 << 33 };
        let data = Bytes::from_static(b"abc");
        let chunk = ChunkFrame { id, worker: worker.clone(), which, number: 7, total, data, end: None };
        assert_eq!(ChunkFrame::decode(&encoded(|out| chunk.encode(out))).as_ref(), Ok(&chunk));
        for end in [Ok(()), Err(failure.clone())] {
            let last = ChunkFrame { which: Which::Stream, total: 0, end: Some(end), ..chunk.clone() };
            assert_eq!(ChunkFrame::decode(&encoded(|out| last.encode(out))), Ok(last));
        }
        for up_to in [Ok(16), Err(failure.clone())] {
            let credit = CreditFrame { id, which, up_to };
            assert_eq!(CreditFrame::decode(&encoded(|out| credit.encode(out))), Ok(credit));
        }
    }
    let close = Close { session: SessionId([4; 16]) };
    assert_eq!(Close::decode(&encoded(|out| close.encode(out))), Ok(close));
    let leave = Leave { worker, group: "g".into() };
    assert_eq!(Leave::decode(&encoded(|out| leave.encode(out))), Ok(leave));
}

#[test]
fn first_and_last_frames_of_a_plugins_process_travel() {
    let start = Start { recipe: Bytes::from_static(b"{\"plugin\": \"auth\"}") };
    assert_eq!(Start::decode(&encoded(|out| start.encode(out))), Ok(start));
    let refusal = Refusal { why: "plugin.py:3: no".to_owned() };
    assert_eq!(Refusal::decode(&encoded(|out| refusal.encode(out))), Ok(refusal));
    let long = Refusal { why: "\u{e9}".repeat(limits::MAX_MESSAGE) };
    let cut = Refusal::decode(&encoded(|out| long.encode(out))).expect("it is cut, not refused");
    assert_eq!(cut.why.len(), limits::MAX_MESSAGE);
    let stop = Stop { remaining: Duration::from_millis(1500) };
    assert_eq!(Stop::decode(&encoded(|out| stop.encode(out))), Ok(stop));
    let shape = EntryShape { on_demand: true, ..EntryShape::default() };
    let entries = vec![EntryInfo { name: "any".to_owned(), shape }];
    let (worker, group, software) = ("process-1".into(), "auth".into(), "0.1.0".into());
    let info = Info { worker, group, software, concurrency: 0, entries };
    assert_eq!(Info::decode(&encoded(|out| info.encode(out))), Ok(info));
}

#[test]
fn every_failure_kind_survives_and_carries_no_mutation() {
    use FailureKind::*;
    for kind in [Raised, Undecided, TimedOut, Unavailable, Overloaded, WorkerDied, Protocol, UnknownEntry] {
        let outcome = Outcome::Failed(Failure::new(kind, "why"));
        let ops = vec![Op::status(204).expect("status")];
        let state = Some(Bytes::from_static(b"\x80"));
        let sent = Reply { ops, state, ..Reply::new(CallId([0; 16]), "w".into(), outcome.clone()) };
        let got =
            Reply::decode(&encoded(|out| sent.encode(out)), Phase::RequestFilter, false).expect("decode");
        assert_eq!((got.outcome, got.ops.len(), got.state), (outcome, 0, None));
    }
}

#[test]
fn a_mutation_that_the_phase_forbids_spoils_the_whole_reply() {
    let ops = vec![
        Op::AddResponseHeader(HeaderName::from_static("x-a"), HeaderValue::from_static("1")),
        Op::SetRequestHeader(HeaderName::from_static("x-b"), HeaderValue::from_static("1")),
    ];
    let reply = Reply { ops, ..Reply::new(CallId([0; 16]), "w".into(), Outcome::Next) };
    let frame = encoded(|out| reply.encode(out));
    assert!(Reply::decode(&frame, Phase::RequestFilter, false).is_ok());
    for (phase, streaming) in
        [(Phase::ResponseFilter, false), (Phase::ResponseBodyFilter, true), (Phase::Logging, false)]
    {
        assert!(matches!(Reply::decode(&frame, phase, streaming), Err(WireError::Op(_))));
    }
}

/// Appends one key and value to a frame's outermost map.
fn with_key(frame: &Bytes, key: &str, value: &[u8]) -> Bytes {
    let mut raw = frame.to_vec();
    assert_eq!(raw[0], 0xde, "frames start with a map16");
    let keys = u16::from_be_bytes([raw[1], raw[2]]) + 1;
    raw[1..3].copy_from_slice(&keys.to_be_bytes());
    raw.push(0xa0 | key.len() as u8);
    raw.extend_from_slice(key.as_bytes());
    raw.extend_from_slice(value);
    raw.into()
}

#[test]
fn frames_of_a_later_version_are_read_without_what_they_add() {
    let nested = b"\x82\xa1a\x93\x01\xc0\xcb\0\0\0\0\0\0\0\0\xa1b\xc7\x02\x05zz";
    let call = encoded(|out| encode_call(out, &meta(), &plain_call(Phase::RequestFilter), &plain_exchange()));
    let later = with_key(&with_key(&call, "zz", nested), "v", b"\x07");
    assert_eq!(CallFrame::decode(&later).expect("decode").entry.as_str(), "check");
    let ack = encoded(|out| Ack { id: CallId([3; 16]), worker: "w1".into() }.encode(out));
    assert_eq!(Ack::decode(&with_key(&ack, "zz", nested)).expect("decode").worker.as_str(), "w1");
    let unknown = Bytes::from_static(b"\x82\xa1t\xa5later\xa1v\x02");
    assert_eq!(Envelope::peek(&unknown), Err(WireError::Kind { found: "later".into() }));
}

#[test]
fn a_frame_of_the_wrong_kind_version_or_length_is_refused() {
    let ack = encoded(|out| Ack { id: CallId([3; 16]), worker: "w1".into() }.encode(out));
    assert!(matches!(Busy::decode(&ack), Err(WireError::Kind { .. })));
    assert_eq!(Ack::decode(&with_key(&ack, "v", b"\x00")), Err(WireError::Version(0)));
    let mut longer = ack.to_vec();
    longer.push(0);
    assert_eq!(Ack::decode(&longer.into()), Err(WireError::Trailing(1)));
    assert!(matches!(Ack::decode(&ack.slice(..ack.len() - 1)), Err(WireError::Truncated { .. })));
    assert_eq!(
        Ack::decode(&Bytes::from_static(b"\x82\xa1t\xa3ack\xa1v\x01")),
        Err(WireError::Missing { what: "call id (id)" })
    );
}

#[test]
fn a_body_over_the_inline_limit_is_announced_with_its_size() {
    let mut large = plain_exchange();
    large.request_body = RequestBody::Read(Bytes::from(vec![7; 100]));
    large.response_body = ResponseBody::Replaced(Bytes::from(vec![8; 10]));
    let limited = CallMeta { inline_request_body: 99, inline_response_body: 99, ..meta() };
    let frame = encoded(|out| encode_call(out, &limited, &plain_call(Phase::RequestFilter), &large));
    let decoded = CallFrame::decode(&frame).expect("decode");
    assert_eq!(decoded.request_body, BodyPart::Held { size: 100 });
    assert_eq!(decoded.response_body, BodyPart::Bytes(Bytes::from(vec![8; 10])));
    let ctx = decoded.into_context().expect("sections");
    assert_eq!(ctx.exchange().request_body, RequestBody::Unread);
}

#[test]
fn what_is_over_a_limit_is_refused_by_the_sender_and_leaves_the_buffer_as_it_was() {
    let mut out = b"kept".to_vec();
    let fat = Call { state: Bytes::from(vec![0; limits::MAX_STATE + 1]), ..plain_call(Phase::RequestFilter) };
    assert!(matches!(
        encode_call(&mut out, &meta(), &fat, &plain_exchange()),
        Err(WireError::TooLarge { what: "ctx.state", .. })
    ));
    let mut many = plain_exchange();
    for _ in 0..=limits::MAX_HEADERS {
        many.request.headers.append("x-a", HeaderValue::from_static("1"));
    }
    let refused = encode_call(&mut out, &meta(), &plain_call(Phase::RequestFilter), &many);
    assert!(matches!(refused, Err(WireError::TooLarge { .. })));
    assert_eq!(out, b"kept");
}

#[test]
fn the_text_of_an_error_is_cut_inside_no_character() {
    let message = "é".repeat(limits::MAX_MESSAGE);
    let outcome = Outcome::Failed(Failure::new(FailureKind::Raised, message));
    let reply = Reply::new(CallId([0; 16]), "w".into(), outcome);
    let frame = encoded(|out| reply.encode(out));
    let got = Reply::decode(&frame, Phase::Logging, false).expect("decode");
    assert!(matches!(got.outcome, Outcome::Failed(f) if f.message == "é".repeat(limits::MAX_MESSAGE / 2)));
}
