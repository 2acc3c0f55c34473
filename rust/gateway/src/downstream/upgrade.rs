//! What a client wants to speak instead of HTTP: by `upgrade` over HTTP/1.1 (RFC 9110, 7.8), by an extended CONNECT
//! over HTTP/2 (RFC 8441).
//!
//! From here on both are the same: a GET that offers an upgrade, which is what a service behind us understands. What
//! only one of them has, the key of the WebSocket handshake, is made up and checked by us for the other.

use crate::likes::items;
use crate::respond::ErrorAnswer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::rc::Rc;

/// What an obsolete way to HTTP/2 comes with (RFC 9113, 3.1).
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// What a server that takes up a WebSocket hashes behind its key (RFC 6455, 1.3).
const WEBSOCKET_ID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An offered upgrade.
pub struct Upgrade {
    /// The connection or the stream, once the response that takes it up is sent.
    pub connection: OnUpgrade,
    /// The `upgrade` field.
    pub protocol: HeaderValue,
    /// What the service has to prove its handshake with, where the key is ours and not the client's.
    proof: Option<HeaderValue>,
    /// Told of each piece that goes to the client, where the connection counts what a client may do for one.
    pub(super) on_piece: Option<Rc<dyn Fn()>>,
}

impl Upgrade {
    /// The upgrade that an HTTP/1.1 request offers where both fields say so, and only without a body. One to HTTP/2 is
    /// none: what follows it would be read by nobody who checks it.
    pub(super) fn offered(request: &mut Request<Incoming>) -> Option<Upgrade> {
        let protocol = request.headers().get(header::UPGRADE)?.clone();
        let is_h2c = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(b"h2c");
        if protocol.as_bytes().split(|byte| *byte == b',').any(is_h2c) {
            request.headers_mut().remove(HTTP2_SETTINGS);
            return None;
        }
        let named = items(request.headers(), &header::CONNECTION)
            .any(|option| option.eq_ignore_ascii_case("upgrade"));
        let plain =
            named && request.version() == Version::HTTP_11 && http_body::Body::is_end_stream(request.body());
        plain.then(|| Upgrade {
            connection: hyper::upgrade::on(request),
            protocol,
            proof: None,
            on_piece: None,
        })
    }

    /// Makes of an extended CONNECT the GET that it stands for.
    ///
    /// # Errors
    /// The answer for any other CONNECT.
    pub(super) fn connected(request: &mut Request<Incoming>) -> Result<Upgrade, ErrorAnswer> {
        let Some(protocol) = request.extensions().get::<Protocol>() else {
            return Err(ErrorAnswer { status: StatusCode::BAD_REQUEST, text: "CONNECT is not supported" });
        };
        if protocol.as_str() != "websocket" {
            return Err(ErrorAnswer { status: StatusCode::NOT_IMPLEMENTED, text: "unknown protocol" });
        }
        let connection = hyper::upgrade::on(&mut *request);
        let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
        let proof = Some(base64_value(&proof_of(&key)));
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::SEC_WEBSOCKET_KEY, base64_value(&key));
        Ok(Upgrade { connection, protocol: WEBSOCKET, proof, on_piece: None })
    }

    /// A piece goes to the client.
    pub(crate) fn sent_piece(&self) {
        if let Some(on_piece) = &self.on_piece {
            on_piece();
        }
    }

    /// Whether the service behind a response 101 with these fields has understood what it took up.
    ///
    /// # Errors
    /// What it has not.
    pub(crate) fn verify(&self, headers: &mut HeaderMap) -> Result<(), &'static str> {
        let Some(proof) = &self.proof else { return Ok(()) };
        let protocol = headers.get(header::UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
        if !protocol.eq_ignore_ascii_case(WEBSOCKET.as_bytes()) {
            return Err("it switched to another protocol than WebSocket");
        }
        match headers.remove(header::SEC_WEBSOCKET_ACCEPT) {
            Some(value) if value == proof => Ok(()),
            _ => Err("its sec-websocket-accept does not fit the key"),
        }
    }
}

/// The value of `sec-websocket-accept` for a key (RFC 6455, 4.2.2).
fn proof_of(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{WEBSOCKET_ID}").as_bytes()))
}

fn base64_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("base64 is text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_proved_as_in_the_rfc() {
        assert_eq!(proof_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
