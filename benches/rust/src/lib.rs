//! The call and the reply that everything here measures: a request as a browser's script sends it, 604 bytes as a
//! frame, and an answer that adds one header, 117 bytes. One sample for all, so that the figures of the worker, of
//! the codec and of other codecs speak of the same bytes.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use nylon_core::{
    Call, Exchange, Op, Outcome, Params, Phase, PhaseMask, RequestFacts, RequestHead, RequestId, Scheme,
    TargetPart,
};
use nylon_wire::{CallId, CallMeta, EntryShape, Reply, SessionId, encode_call, limits};
use std::time::{Duration, SystemTime};

/// Bytes of [`call`]'s frame.
pub const CALL_SIZE: usize = 604;
/// Bytes of [`reply`]'s frame.
pub const REPLY_SIZE: usize = 117;
/// The call id in the sample.
pub const ID: CallId = CallId(*b"\xa1call id sample\xa2");
/// The session id in the sample.
pub const SESSION: SessionId = SessionId(*b"\xa1session sample\xa2");

const HEADERS: [(&str, &str); 7] = [
    ("host", "shop.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Firefox/131.0"),
    ("accept", "application/json, text/plain"),
    ("accept-encoding", "gzip, deflate, br"),
    ("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0"),
    ("cookie", "sid=0123456789abcdef"),
    ("x-request-id", "6b3f2c1e-77aa-4a54"),
];

/// The exchange that the sample call is about, with `padding` more bytes in a header.
fn padded_exchange(padding: usize) -> Exchange {
    let facts = RequestFacts {
        id: RequestId([7; 16]),
        scheme: Scheme::Https,
        host: "shop.example.com".parse().expect("authority"),
        client_ip: [192, 0, 2, 1].into(),
        received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        params: Params::default(),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in HEADERS {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let filler = HeaderValue::from_str(&"x".repeat(padding)).expect("field value");
    headers.append("x-filler", filler);
    let request = RequestHead {
        method: Method::GET,
        path: TargetPart::path("/api/v1/accounts/12345/orders".into()).expect("path"),
        query: TargetPart::query("page=2&size=50".into()),
        version: Version::HTTP_11,
        headers,
    };
    Exchange::new(facts, request)
}

/// What the sample call says beside its exchange.
pub fn meta(entry: &str) -> CallMeta<'_> {
    CallMeta {
        id: ID,
        session: SESSION,
        plugin: "bench",
        entry,
        remaining: Duration::from_millis(5000),
        claim: false,
        traceparent: None,
        inline_request_body: limits::INLINE_BODY,
        inline_response_body: limits::INLINE_BODY,
    }
}

/// The call itself.
pub fn plain_call() -> Call {
    Call { phase: Phase::RequestFilter, payload: Bytes::new(), state: Bytes::new(), attempt: 1 }
}

fn frame_of(entry: &str, exchange: &Exchange) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_call(&mut frame, &meta(entry), &plain_call(), exchange).expect("the sample is a legal call");
    frame
}

/// The sample's exchange, filled up so that its frame has [`CALL_SIZE`] bytes whatever the entry's name.
pub fn exchange(entry: &str) -> Exchange {
    let bare = frame_of(entry, &padded_exchange(0)).len();
    padded_exchange(CALL_SIZE.checked_sub(bare).expect("the sample has room left"))
}

/// The sample call as a frame of [`CALL_SIZE`] bytes.
pub fn call(entry: &str) -> Vec<u8> {
    let frame = frame_of(entry, &exchange(entry));
    assert_eq!(frame.len(), CALL_SIZE);
    frame
}

/// The sample reply, whose frame has [`REPLY_SIZE`] bytes.
pub fn reply() -> Reply {
    let value = HeaderValue::from_static("0123456789abcdef0123456789abcdef0");
    Reply {
        ops: vec![Op::SetRequestHeader(HeaderName::from_static("x-user"), value)],
        shape: Some(EntryShape {
            phases: PhaseMask::from_iter([Phase::RequestFilter]),
            ..EntryShape::default()
        }),
        ..Reply::new(ID, "0123456789abcdef".into(), Outcome::Next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_frames_have_the_sizes_that_the_figures_speak_of() {
        assert_eq!(call("inline").len(), CALL_SIZE);
        assert_eq!(call("a longer name").len(), CALL_SIZE);
        let mut frame = Vec::new();
        reply().encode(&mut frame).expect("the sample is a legal reply");
        assert_eq!(frame.len(), REPLY_SIZE);
    }
}
