//! Fields behind a body (RFC 9110, 6.5).
//!
//! Whoever merges them into the head must find nothing there that frames the message, routes it, says who asks, or
//! changes how it is read: such fields count only where they were when the message was judged.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::Frame;

/// A frame of a body, without what may not be a trailer.
pub(super) fn cleaned(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(data) => Frame::data(data),
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(allowed(trailers)),
            Err(other) => other,
        },
    }
}

fn allowed(mut trailers: HeaderMap) -> HeaderMap {
    while let Some(name) = trailers.keys().find(|name| is_forbidden(name)).cloned() {
        tracing::debug!("left out a trailer: {name}");
        trailers.remove(name);
    }
    trailers
}

fn is_forbidden(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        // The frame and the route.
        "connection" | "content-length" | "forwarded" | "host" | "http2-settings" | "keep-alive" | "location"
            | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "via"
            // Who asks, and what a client is given to say so.
            | "authorization" | "cookie" | "proxy-authenticate" | "proxy-authorization" | "set-cookie"
            | "www-authenticate"
            // How a request is answered, and a response kept.
            | "age" | "cache-control" | "date" | "expect" | "expires" | "max-forwards" | "pragma" | "range"
            | "retry-after" | "vary" | "warning"
            // How the content is read.
            | "content-encoding" | "content-range" | "content-type"
    ) || name.starts_with("if-")
        || name.starts_with("x-forwarded-")
        || name.starts_with("access-control-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_counts_only_in_a_head_is_no_trailer() {
        let mut trailers = HeaderMap::new();
        for name in ["grpc-status", "content-length", "x-sum", "if-match", "authorization", "x-forwarded-for"]
        {
            trailers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
            trailers.append(HeaderName::from_static(name), HeaderValue::from_static("2"));
        }
        let left = allowed(trailers);
        let mut names: Vec<_> = left.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["grpc-status", "x-sum"]);
        assert_eq!(left.len(), 4);
    }
}
