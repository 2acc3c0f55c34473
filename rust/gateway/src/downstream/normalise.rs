//! From what hyper accepts to what Nylon accepts: exactly one well-formed request whose host, path and length
//! nobody behind us can read differently.

use super::path::{normalise_path, normalise_query};
use super::{Arrived, Client, ClientBody, Upgrade};
use crate::respond::ErrorAnswer;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::body::Incoming;
use ipnet::IpNet;
use nylon_config::Plan;
use nylon_core::head::MAX_TARGET_PART;
use nylon_core::{Params, RequestFacts, RequestHead, RequestId, Scheme};
use std::net::{IpAddr, Ipv6Addr};
use std::time::SystemTime;

/// The client address and those of the proxies before us.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the client used.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the client asked for.
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const fn bad(text: &'static str) -> ErrorAnswer {
    ErrorAnswer { status: StatusCode::BAD_REQUEST, text }
}

/// Checks a request and takes it apart. How it is framed was checked before, by its bytes ([`super::framing`]).
///
/// # Errors
/// The answer for a request that is refused; the connection is closed behind it.
pub(super) fn normalise(
    mut request: Request<Incoming>,
    client: &Client,
    id: RequestId,
    received_at: SystemTime,
    plan: &Plan,
) -> Result<Arrived, ErrorAnswer> {
    check_expectation(request.headers())?;
    let upgrade = match *request.method() {
        Method::CONNECT => Some(Upgrade::connected(&mut request)?),
        _ => Upgrade::offered(&mut request),
    };
    let (parts, body) = request.into_parts();
    let (method, uri, version, mut headers) = (parts.method, parts.uri, parts.version, parts.headers);
    let limits = &plan.limits;
    let longest = limits.max_forwarded_body_bytes.unwrap_or(u64::MAX);
    if http_body::Body::size_hint(&body).lower() > longest {
        return Err(ErrorAnswer { status: StatusCode::PAYLOAD_TOO_LARGE, text: "body too large" });
    }
    // Without its scheme an authority is the target of CONNECT only.
    if uri.authority().is_some() && !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("invalid target"));
    }
    let host = host(&mut headers, &uri, version, client)?;
    // `*` is the target of OPTIONS for the server as a whole (RFC 9110, 9.3.7), which a gateway has no use for.
    let path = uri.path_and_query().map_or("/", |target| target.path());
    if path.len().max(uri.query().map_or(0, str::len)) > MAX_TARGET_PART {
        return Err(ErrorAnswer { status: StatusCode::URI_TOO_LONG, text: "the target is too long" });
    }
    let path = normalise_path(path).ok_or(bad("invalid path"))?;
    let query = uri.query().map(|text| normalise_query(text).ok_or(bad("invalid query"))).transpose()?;
    strip_but_trailers(&mut headers, true);
    headers.remove(header::EXPECT);
    let via = HeaderValue::from_static(if version == Version::HTTP_2 { "2 nylon" } else { "1.1 nylon" });
    let (client_ip, scheme) = forwarded(&mut headers, client, &host, &plan.trusted_proxies, via);
    let facts = RequestFacts { id, scheme, host, client_ip, received_at, params: Params::default() };
    let body = ClientBody::new(body, limits.body_read_timeout, limits.max_forwarded_body_bytes);
    Ok(Arrived { facts, head: RequestHead { method, path, query, version, headers }, body, upgrade })
}

fn check_expectation(headers: &HeaderMap) -> Result<(), ErrorAnswer> {
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(ErrorAnswer { status: StatusCode::EXPECTATION_FAILED, text: "unknown expectation" })
        }
        _ => Ok(()),
    }
}

/// The one host of a request: an absolute target's wins over the field (RFC 9112, 3.2.2), which is made to agree.
fn host(
    headers: &mut HeaderMap,
    target: &Uri,
    version: Version,
    client: &Client,
) -> Result<Authority, ErrorAnswer> {
    let mut values = headers.get_all(header::HOST).iter();
    let field = match (values.next(), values.next()) {
        (_, Some(_)) => return Err(bad("more than one host")),
        // In HTTP/2 `:authority` takes the field's place (RFC 9113, 8.3.1).
        (None, None)
            if version == Version::HTTP_11 || version > Version::HTTP_11 && target.authority().is_none() =>
        {
            return Err(bad("no host"));
        }
        (None, None) => None,
        (Some(value), None) => Some(known_authority(value.as_bytes(), client)?),
    };
    let host = match (target.authority(), field) {
        (None, Some(field)) => return Ok(field),
        (Some(target), _) => known_authority(target.as_str().as_bytes(), client)?,
        // HTTP/1.0 knows requests without a host: they mean the address that they came to.
        (None, None) => authority(client.local.to_string().as_bytes())?,
    };
    headers.insert(header::HOST, HeaderValue::from_str(host.as_str()).map_err(|_| INVALID_HOST)?);
    Ok(host)
}

fn known_authority(text: &[u8], client: &Client) -> Result<Authority, ErrorAnswer> {
    let mut known = client.host.borrow_mut();
    match &*known {
        Some(host) if host.as_str().as_bytes() == text => Ok(host.clone()),
        _ => Ok(known.insert(authority(text)?).clone()),
    }
}

const INVALID_HOST: ErrorAnswer = bad("invalid host");

/// A host and perhaps a port (RFC 9110, 7.2), without user information, which is only there to deceive.
fn authority(text: &[u8]) -> Result<Authority, ErrorAnswer> {
    let colon = text.iter().rposition(|byte| *byte == b':').filter(|at| !text[*at..].contains(&b']'));
    let (name, port) = colon.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    let port_is_valid = port.is_none_or(|port| {
        !port.is_empty()
            && port.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok())
    });
    let name_is_valid = match name {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        name => {
            !name.is_empty()
                && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte))
        }
    };
    if !(port_is_valid && name_is_valid) {
        return Err(INVALID_HOST);
    }
    Authority::from_maybe_shared(Bytes::copy_from_slice(text)).map_err(|_| INVALID_HOST)
}

/// Writes who asked, over which scheme and for which host into the fields that services read. What a peer says of
/// those before it counts only if it is trusted.
fn forwarded(
    headers: &mut HeaderMap,
    client: &Client,
    host: &Authority,
    trusted: &[IpNet],
    via: HeaderValue,
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
        headers.insert(header::VIA, via);
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
    headers.append(header::VIA, via);
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

/// The same, but what a message says of trailers goes on, since they do: which follow it if `keeps_announced`, and
/// whether its sender takes any (`te: trailers`), which is returned.
pub(crate) fn strip_but_trailers(headers: &mut HeaderMap, keeps_announced: bool) -> bool {
    if !headers.keys().any(is_hop_by_hop) {
        return false;
    }
    let accepts = headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
    let announced: Vec<HeaderValue> = match keeps_announced {
        true => headers.get_all(header::TRAILER).iter().cloned().collect(),
        false => Vec::new(),
    };
    strip_hop_by_hop(headers);
    if accepts {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    for names in announced {
        headers.append(header::TRAILER, names);
    }
    accepts
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

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in ["a.example", "A", "1.2.3.4:80", "[::1]", "[::1]:65535", "under_score"] {
            assert_eq!(authority(host.as_bytes()).expect(host), host);
        }
        for host in [
            "", ":80", "a:", "a:b", "a:65536", "a:-1", "u@a", "u:p@a", "a/b", "a b", "a?b", "[::1", "::1",
            "[a]", "[]", "a,b@c", "ü", "a%2eb", "a#", "a\\b", "[::1]x",
        ] {
            assert!(authority(host.as_bytes()).is_err(), "{host}");
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

    #[test]
    fn what_is_said_of_trailers_goes_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "te"), ("te", "gzip, Trailers;q=1"), ("trailer", "x-a"), ("trailer", "x-b")]
        {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut said = headers.clone();
        assert!(!strip_but_trailers(&mut said, true) && !said.contains_key("te"));
        headers.insert("te", HeaderValue::from_static("gzip, Trailers"));
        assert!(strip_but_trailers(&mut headers, true));
        assert_eq!((headers.len(), &headers["te"]), (3, &HeaderValue::from_static("trailers")));
        assert!(strip_but_trailers(&mut headers, false) && headers.len() == 1);
    }
}
