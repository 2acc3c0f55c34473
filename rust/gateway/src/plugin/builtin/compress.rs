//! `Compress`: response bodies travel smaller, where the client can read them so and nothing speaks against it.
//!
//! Whether a body is compressed is decided when its head is all but sent, after every other filter has had its say; then
//! it goes through by chunk. Each chunk leaves whole, flushed, so that a stream of events arrives as it is written, and
//! nothing is held but the window of the encoder, which is kept small. It runs on the data-plane thread: a chunk has an
//! upper bound, and so have the levels.

use super::encoder::Encoder;
use super::ending::{conclude, fail, pass};
use super::vary;
use crate::likes::{codings, items};
use crate::plugin::{BodyUse, EntryTraits, Pending, PhaseCall, PluginEntry, Session};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use nylon_config::plan::{Compress, Encoding, MediaPattern};
use nylon_core::{Exchange, FailureKind, Op, Outcome, Phase, PhaseMask};

/// Fields that vouch for the bytes as the service sent them: with one of them the bytes stay as they are.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

pub(super) struct CompressEntry {
    settings: Compress,
    phases: PhaseMask,
}

impl CompressEntry {
    pub(super) fn new(settings: Compress, phases: PhaseMask) -> CompressEntry {
        CompressEntry { settings, phases }
    }

    /// What the client likes is as it said it itself, whatever the service is told later.
    fn note<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        if let Some((encoding, level)) = self.choose(&call.exchange.request.headers) {
            call.session.slot = Some(Box::new(Encoder::new(encoding, level)));
        }
        Pending::Ready(pass(call.exchange))
    }

    /// With the head, before it is sent.
    fn decide<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let response = &call.exchange.response;
        let length = length(&call.exchange);
        // A 304 stands for a response of which it shows next to nothing; to weaken its tag is right for any.
        let is_304 = response.status == StatusCode::NOT_MODIFIED;
        let eligible = match is_304 {
            true => response.headers.contains_key(header::ETAG),
            false => self.may_compress(response.status, &response.headers, length),
        };
        if !eligible {
            return Pending::Ready(pass(call.exchange));
        }
        let mut ops: Vec<Op> = vary(&response.headers, "accept-encoding").into_iter().collect();
        if let Some(encoder) = encoder(call.session) {
            if let Some(tag) = response.headers.get(header::ETAG).and_then(weakened) {
                ops.push(Op::SetResponseHeader(header::ETAG, tag));
            }
            if !is_304 {
                encoder.expect(length);
                let name = HeaderValue::from_static(encoder.encoding().name());
                ops.push(Op::SetResponseHeader(header::CONTENT_ENCODING, name));
                ops.push(Op::RemoveResponseHeader(header::CONTENT_LENGTH));
                // Ranges are of the bytes that were sent, which the service does not know.
                ops.push(Op::RemoveResponseHeader(header::ACCEPT_RANGES));
                call.session.takes_chunks = true;
            }
        }
        Pending::Ready(conclude(call.exchange, &ops, Outcome::Next))
    }

    fn chunk<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let encoder = call.session.slot.as_mut().and_then(|slot| slot.downcast_mut::<Encoder>());
        let (Some(encoder), Some(chunk)) = (encoder, &call.exchange.chunk) else {
            return Pending::Ready(pass(call.exchange));
        };
        Pending::Ready(match encoder.encode(&chunk.data, chunk.end_of_stream) {
            Ok(encoded) => conclude(call.exchange, &[Op::SetChunk(encoded.into())], Outcome::Next),
            Err(error) => fail(call.exchange, FailureKind::Raised, format!("the encoder failed: {error}")),
        })
    }

    /// Whether the response is one that gains by it and may be changed (RFC 9110, 7.7 and 8.4; RFC 9111, 5.2.2.6).
    fn may_compress(&self, status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> bool {
        let has_content = !status.is_informational()
            && !matches!(status, StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT);
        has_content
            && length.is_none_or(|length| length >= self.settings.min_bytes.max(1))
            && !headers.contains_key(header::CONTENT_ENCODING)
            && !headers.contains_key(header::CONTENT_RANGE)
            && !DIGESTS.iter().any(|name| headers.contains_key(name))
            && !items(headers, &header::CACHE_CONTROL).any(|item| item.eq_ignore_ascii_case("no-transform"))
            && headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| MediaPattern::any(&self.settings.content_types, value))
    }

    /// What the client likes best of what is offered; none where it would rather have none.
    fn choose(&self, headers: &HeaderMap) -> Option<(Encoding, u32)> {
        let offered = self.settings.encodings.iter().map(|offered| (offered.0.name(), *offered));
        codings(headers, offered).into_iter().next()
    }
}

impl PluginEntry for CompressEntry {
    fn traits(&self) -> EntryTraits {
        let response_body = BodyUse::ByChunkIfWanted;
        EntryTraits { phases: self.phases, request_body: false, response_body }
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        match (call.call.phase, &call.exchange.chunk) {
            (Phase::RequestFilter, _) => self.note(call),
            (_, None) => self.decide(call),
            (_, Some(_)) => self.chunk(call),
        }
    }
}

/// The encoder of this response, where the client likes one.
fn encoder(session: &mut Session) -> Option<&mut Encoder> {
    session.slot.as_mut()?.downcast_mut()
}

/// Bytes of the body, where they are known.
fn length(exchange: &Exchange) -> Option<u64> {
    match exchange.response_body.bytes() {
        Some(bytes) => Some(bytes.len() as u64),
        None => exchange.response.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok(),
    }
}

/// The tag of a representation that means the same and has other bytes (RFC 9110, 8.8.1).
fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    if tag.as_bytes().starts_with(b"W/") {
        return None;
    }
    HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accepts: &[&str]) -> Option<&'static str> {
        let settings = Compress {
            encodings: vec![(Encoding::Zstd, 3), (Encoding::Brotli, 4), (Encoding::Gzip, 5)],
            content_types: Vec::new(),
            min_bytes: 0,
        };
        let mut headers = HeaderMap::new();
        for accept in accepts {
            headers.append(header::ACCEPT_ENCODING, accept.parse().expect("a value"));
        }
        CompressEntry::new(settings, PhaseMask::NONE).choose(&headers).map(|(encoding, _)| encoding.name())
    }

    #[test]
    fn the_client_chooses_and_the_order_breaks_ties() {
        for (accepts, encoding) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some("gzip")),
            (&["x-gzip"], Some("gzip")),
            (&["gzip, br, zstd"], Some("zstd")),
            (&["gzip", "br"], Some("br")),
            (&["gzip;q=1, br;q=0.9"], Some("gzip")),
            (&["GZIP ; Q=0.5 , br;q=0.4"], Some("gzip")),
            (&["*"], Some("zstd")),
            (&["*, zstd;q=0"], Some("br")),
            (&["*;q=0, gzip"], Some("gzip")),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&["gzip;q=0.5, identity"], None),
            (&["gzip, identity;q=0.5"], Some("gzip")),
            (&["deflate, compress"], None),
            (&["gzip;q=high"], None),
            (&["gzipped"], None),
        ] {
            assert_eq!(chosen(accepts), encoding, "{accepts:?}");
        }
    }
}
