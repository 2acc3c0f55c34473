//! From what hyper accepts to what Nylon accepts: exactly one well-formed request whose host, path and length
//! nobody behind us can read differently.

use super::path::normalise_path;
use super::{Arrived, Client, ClientBody, Upgrade};
use crate::respond::ErrorAnswer;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::body::Incoming;
use ipnet::IpNet;
use nylon_config::Plan;
use nylon_core::{Params, RequestFacts, RequestHead, RequestId, Scheme, TargetPart};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

/// The client address and those of the proxies before us.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the client used.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the client asked for.
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const VIA: HeaderValue = HeaderValue::from_static("1.1 nylon");

static NO_PARAMS: LazyLock<Params> = LazyLock::new(|| Arc::new([]));

const fn bad(text: &'static str) -> ErrorAnswer {
    ErrorAnswer { status: StatusCode::BAD_REQUEST, text }
}

/// Checks a request and takes it apart. `raw` is what was read since the last response.
///
/// # Errors
/// The answer for a request that is refused; the connection is closed behind it.
pub(super) fn normalise(
    mut request: Request<Incoming>,
    raw: &[u8],
    client: &Client,
    id: RequestId,
    plan: &Plan,
) -> Result<Arrived, ErrorAnswer> {
    check_framing(&request, raw)?;
    check_expectation(request.headers())?;
    let upgrade = upgrade(&mut request);
    let (parts, body) = request.into_parts();
    let (method, uri, version, mut headers) = (parts.method, parts.uri, parts.version, parts.headers);
    if method == Method::CONNECT {
        return Err(bad("CONNECT is not supported"));
    }
    let host = host(&mut headers, &uri, version)?;
    // `*` is the target of OPTIONS for the server as a whole (RFC 9110, 9.3.7), which a gateway has no use for.
    let path = uri.path_and_query().map_or("/", |target| target.path());
    let path = normalise_path(path).ok_or(bad("invalid path"))?;
    let query = uri
        .query()
        .map(|text| TargetPart::query(Bytes::copy_from_slice(text.as_bytes())).ok_or(bad("invalid query")));
    let query = query.transpose()?;
    strip_hop_by_hop(&mut headers);
    headers.remove(header::EXPECT);
    let (client_ip, scheme) = forwarded(&mut headers, client, &host, &plan.trusted_proxies);
    let facts = RequestFacts {
        id,
        scheme,
        host,
        client_ip,
        received_at: SystemTime::now(),
        params: NO_PARAMS.clone(),
    };
    let limits = &plan.limits;
    let body = ClientBody::new(body, limits.body_read_timeout, limits.max_forwarded_body_bytes);
    Ok(Arrived { facts, head: RequestHead { method, path, query, version, headers }, body, upgrade })
}

/// Refuses a head whose length can be read in two ways (RFC 9112, 6.3), judged by its bytes: hyper has merged or
/// dropped lines by now. Heads without a body are not looked at.
fn check_framing(request: &Request<Incoming>, raw: &[u8]) -> Result<(), ErrorAnswer> {
    let headers = request.headers();
    if !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Request::new(&mut lines);
    // A pipelined request's head is not at the front of what was read. hyper answers such a one by its
    // transfer-encoding alone, drops the length, and closes: nothing can be smuggled behind it.
    let seen = matches!(head.parse(raw), Ok(httparse::Status::Complete(_)))
        && head.method == Some(request.method().as_str());
    if seen { check_lengths(head.headers) } else { Ok(()) }
}

fn check_lengths(lines: &[httparse::Header<'_>]) -> Result<(), ErrorAnswer> {
    let values = |name: HeaderName| {
        lines.iter().filter(move |line| name.as_str().eq_ignore_ascii_case(line.name)).map(|line| line.value)
    };
    let (mut lengths, mut codings) = (values(header::CONTENT_LENGTH), values(header::TRANSFER_ENCODING));
    match (lengths.next(), codings.next()) {
        (Some(_), Some(_)) => Err(bad("both content-length and transfer-encoding")),
        (Some(length), None) if length.is_empty() || !length.iter().all(u8::is_ascii_digit) => {
            Err(bad("invalid content-length"))
        }
        (None, Some(coding)) if !coding.eq_ignore_ascii_case(b"chunked") => {
            Err(bad("unsupported transfer-encoding"))
        }
        _ if lengths.next().is_some() => Err(bad("more than one content-length")),
        _ if codings.next().is_some() => Err(bad("more than one transfer-encoding")),
        _ => Ok(()),
    }
}

fn check_expectation(headers: &HeaderMap) -> Result<(), ErrorAnswer> {
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(ErrorAnswer { status: StatusCode::EXPECTATION_FAILED, text: "unknown expectation" })
        }
        _ => Ok(()),
    }
}

/// An upgrade is offered where both fields of RFC 9110, 7.8 say so, and only without a body.
fn upgrade(request: &mut Request<Incoming>) -> Option<Upgrade> {
    let protocol = request.headers().get(header::UPGRADE)?.clone();
    let mut options =
        request.headers().get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named =
        options.any(|list| list.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")));
    let plain =
        named && request.version() == Version::HTTP_11 && http_body::Body::is_end_stream(request.body());
    plain.then(|| Upgrade { connection: hyper::upgrade::on(request), protocol })
}

/// The one host of a request: an absolute target's wins over the field (RFC 9112, 3.2.2), which is made to agree.
fn host(headers: &mut HeaderMap, target: &Uri, version: Version) -> Result<Authority, ErrorAnswer> {
    let mut values = headers.get_all(header::HOST).iter();
    let field = match (values.next(), values.next()) {
        (_, Some(_)) => return Err(bad("more than one host")),
        (None, None) if version >= Version::HTTP_11 => return Err(bad("no host")),
        (None, None) => None,
        (Some(value), None) => Some(
            Authority::from_maybe_shared(Bytes::copy_from_slice(value.as_bytes()))
                .map_err(|_| bad("invalid host"))?,
        ),
    };
    let authority = match (target.authority(), field) {
        (Some(target), field) => {
            if field.as_ref() != Some(target) {
                let value = HeaderValue::from_str(target.as_str()).map_err(|_| bad("invalid host"))?;
                headers.insert(header::HOST, value);
            }
            target.clone()
        }
        (None, Some(field)) => field,
        // HTTP/1.0 knows requests without a host; routes for any host serve them.
        (None, None) => Authority::from_static("localhost"),
    };
    let text = authority.as_str();
    if text.contains('@') || authority.host().is_empty() || text.ends_with(':') {
        return Err(bad("invalid host"));
    }
    Ok(authority)
}

/// Writes who asked, over which scheme and for which host into the fields that services read. What a peer says of
/// those before it counts only if it is trusted.
fn forwarded(
    headers: &mut HeaderMap,
    client: &Client,
    host: &Authority,
    trusted: &[IpNet],
) -> (IpAddr, Scheme) {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    if !is_trusted(&client.ip) {
        headers.insert(X_FORWARDED_FOR, client.ip_value.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(client.scheme.name()));
        // The host field was checked above and is the authority's text.
        if let Some(value) = headers.get(header::HOST).cloned() {
            headers.insert(X_FORWARDED_HOST, value);
        } else {
            headers.remove(X_FORWARDED_HOST);
        }
        headers.remove(header::FORWARDED);
        headers.insert(header::VIA, VIA);
        return (client.ip, client.scheme);
    }
    let mut client_ip = client.ip;
    let hops: Vec<String> = headers
        .get_all(&X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(',').map(|hop| hop.trim().to_owned()))
        .collect();
    for hop in hops.iter().rev() {
        let Ok(ip) = hop.parse::<IpAddr>() else { break };
        client_ip = ip;
        if !is_trusted(&ip) {
            break;
        }
    }
    let list = hops.iter().map(String::as_str).chain([client.ip_value.to_str().unwrap_or_default()]);
    if let Ok(value) = HeaderValue::try_from(list.collect::<Vec<_>>().join(", ")) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    let scheme = match headers.get(&X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => client.scheme,
    };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.name()));
    if !headers.contains_key(&X_FORWARDED_HOST)
        && let Ok(value) = HeaderValue::from_str(host.as_str())
    {
        headers.insert(X_FORWARDED_HOST, value);
    }
    headers.append(header::VIA, VIA);
    (client_ip, scheme)
}

/// Removes what is meant for one connection only, named by `connection` or by RFC 9110, 7.6.1.
///
/// Most heads hold no such field or only a plain `connection`, and every message passes here twice: so each name is
/// looked at once instead of looking all of these up.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let lists_fields = |value: &&HeaderValue| !matches!(value.as_bytes(), b"keep-alive" | b"close");
    let lists: Vec<HeaderValue> =
        headers.get_all(header::CONNECTION).iter().filter(lists_fields).cloned().collect();
    for list in lists.iter().filter_map(|value| value.to_str().ok()) {
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            // Whatever it lists, the fields that frame and route the message are not the peer's to remove.
            if !["host", "content-length"].iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
                headers.remove(name);
            }
        }
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(head: &str) -> Result<(), ErrorAnswer> {
        let raw = format!("POST / HTTP/1.1\r\n{head}\r\n");
        let mut lines = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut lines);
        request.parse(raw.as_bytes()).expect("a head");
        check_lengths(request.headers)
    }

    #[test]
    fn a_length_that_can_be_read_in_two_ways_is_refused() {
        for head in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(lengths(head).is_err(), "{head}");
        }
        for head in ["Content-Length: 5\r\n", "transfer-encoding: Chunked\r\n", "Host: a\r\n"] {
            assert!(lengths(head).is_ok(), "{head}");
        }
    }

    #[test]
    fn fields_named_by_connection_go_and_those_that_frame_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("connection", "host"),
            ("x-hop", "1"),
            ("host", "a"),
            ("te", "trailers"),
            ("x-end", "1"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "x-end"]);
    }
}
