//! From what hyper accepts to what Nylon accepts: exactly one well-formed request whose path, host and length
//! nobody behind us can read differently.

use super::{Arrived, ClientBody};
use crate::respond::ErrorAnswer;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use ipnet::IpNet;
use nylon_config::Plan;
use nylon_core::{RequestFacts, RequestHead, RequestId, Scheme, TargetPart};
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

const fn bad(text: &'static str) -> ErrorAnswer {
    ErrorAnswer { status: StatusCode::BAD_REQUEST, text }
}

/// Checks a request and takes it apart.
///
/// # Errors
/// The answer for a request that is refused; the connection is closed behind it.
pub(super) fn normalise(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    id: RequestId,
    plan: &Plan,
) -> Result<Arrived, ErrorAnswer> {
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let (method, uri, version, mut headers) = (parts.method, parts.uri, parts.version, parts.headers);
    if method == Method::CONNECT {
        return Err(bad("CONNECT is not supported"));
    }
    let host = host(&headers, uri.authority(), version)?;
    let path = uri.path_and_query().map_or("/", |target| target.path());
    let path = TargetPart::path(Bytes::copy_from_slice(path.as_bytes())).ok_or(bad("invalid path"))?;
    let query = match uri.query() {
        None => None,
        Some(text) => {
            Some(TargetPart::query(Bytes::copy_from_slice(text.as_bytes())).ok_or(bad("invalid query"))?)
        }
    };
    let client_ip = client_ip(&headers, peer.ip(), &plan.trusted_proxies);
    strip_hop_by_hop(&mut headers);
    let facts = RequestFacts {
        id,
        scheme: Scheme::Http,
        host,
        client_ip,
        received_at: SystemTime::now(),
        params: [].into(),
    };
    let limits = &plan.limits;
    let body = ClientBody::new(body, limits.body_read_timeout, limits.max_forwarded_body_bytes);
    Ok(Arrived { facts, head: RequestHead { method, path, query, version, headers }, body, upgrade })
}

fn host(headers: &HeaderMap, target: Option<&Authority>, version: Version) -> Result<Authority, ErrorAnswer> {
    let mut values = headers.get_all(header::HOST).iter();
    let named = match (values.next(), values.next()) {
        (_, Some(_)) => return Err(bad("more than one host")),
        (None, None) if version >= Version::HTTP_11 => return Err(bad("no host")),
        (None, None) => HeaderValue::from_static("localhost"),
        (Some(value), None) => value.clone(),
    };
    let authority = match target {
        Some(target) => target.clone(),
        None => Authority::from_maybe_shared(named).map_err(|_| bad("invalid host"))?,
    };
    if authority.as_str().contains('@') { Err(bad("invalid host")) } else { Ok(authority) }
}

fn client_ip(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.to_str().unwrap_or_default().rsplit(',') {
            let Ok(ip) = hop.trim().parse() else { return client };
            client = ip;
            if !is_trusted(ip) {
                return client;
            }
        }
    }
    client
}

/// Removes what is meant for one connection only (RFC 9110, 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    while let Some(value) = headers.remove(header::CONNECTION) {
        for name in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            if !name.is_empty() {
                headers.remove(name);
            }
        }
    }
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
}
