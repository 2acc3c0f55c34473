//! Heads are the `http` crate's header maps beside the few values around them. The request target is kept as
//! path and query apart, because plugins replace one without the other; both are already checked, so that
//! joining them cannot fail later.

use crate::params::Params;
use bytes::Bytes;
use http::header::AsHeaderName;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

/// Longest path, and longest query, in bytes. Their sum stays under what a `PathAndQuery` holds.
pub const MAX_TARGET_PART: usize = 32 * 1024;

/// A checked path or query: ASCII text that may stand in a request target (RFC 9112, 3.2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct TargetPart(Bytes);

impl TargetPart {
    /// The path `/`.
    pub fn root() -> TargetPart {
        TargetPart(Bytes::from_static(b"/"))
    }

    /// A path: starts with `/`, holds no `?`, `#`, control or non-ASCII byte.
    pub fn path(text: Bytes) -> Option<TargetPart> {
        (text.first() == Some(&b'/') && TargetPart::allowed(&text, false)).then_some(TargetPart(text))
    }

    /// A query without its `?`; a `?` inside is legal.
    pub fn query(text: Bytes) -> Option<TargetPart> {
        TargetPart::allowed(&text, true).then_some(TargetPart(text))
    }

    fn allowed(text: &[u8], question_mark: bool) -> bool {
        text.len() <= MAX_TARGET_PART
            && text.iter().all(|&b| {
                (0x21..0x7f).contains(&b)
                    && !matches!(b, b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
                    && (question_mark || b != b'?')
            })
    }

    /// The text as it goes on the wire (percent-encoded).
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a target part is ASCII: checked when made")
    }

    /// The bytes behind it.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for TargetPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What goes to the service: method, target and headers, all writable in `request_filter`.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path, percent-encoded as received.
    pub path: TargetPart,
    /// The query without its `?`, or none where the target had no `?`.
    pub query: Option<TargetPart>,
    /// The version that the client spoke.
    pub version: Version,
    /// The fields, hop-by-hop ones removed.
    pub headers: HeaderMap,
}

impl RequestHead {
    /// Path and query joined for a request line.
    pub fn target(&self) -> PathAndQuery {
        let joined = match &self.query {
            None => self.path.as_bytes().clone(),
            Some(query) => [self.path.as_bytes().as_ref(), b"?", query.as_bytes()].concat().into(),
        };
        PathAndQuery::from_maybe_shared(joined).expect("both parts are checked and short enough together")
    }

    /// The version of HTTP as handlers know it, such as `1.1`.
    pub fn version_name(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => "1.1",
        }
    }
}

/// Looks at all values of one field as one (RFC 9110, 5.3). `set-cookie` cannot be joined: its first value.
pub fn joined<R>(
    headers: &HeaderMap,
    name: impl AsHeaderName + AsRef<str> + Copy,
    look: impl FnOnce(&[u8]) -> R,
) -> Option<R> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    // One value is the rule, and needs no copy.
    let Some(second) = values.next() else { return Some(look(first)) };
    let is = |known: HeaderName| name.as_ref().eq_ignore_ascii_case(known.as_str());
    if is(http::header::SET_COOKIE) {
        return Some(look(first));
    }
    let separator: &[u8] = if is(http::header::COOKIE) { b"; " } else { b", " };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(separator);
        all.extend_from_slice(value.as_bytes());
    }
    Some(look(&all))
}

/// The value of a cookie that a client sent, without quotes (RFC 6265, 5.4).
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let lines = headers.get_all(http::header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let value = pairs.find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    })?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// What `content-length` says, where it stands and is a number.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The part of a response in front of its body.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status; 200 while nobody has set one.
    pub status: StatusCode,
    /// The fields, hop-by-hop ones removed.
    pub headers: HeaderMap,
}

/// `http` or `https`, as the client used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// The name in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Names one request in logs, error bodies and on workers: 16 bytes, shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is true of a request from its arrival to its end, whatever plugins do to its head.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// The request's name.
    pub id: RequestId,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port as the client named them.
    pub host: Authority,
    /// The client's address, from the connection or from a trusted proxy.
    pub client_ip: IpAddr,
    /// When the head was complete.
    pub received_at: SystemTime,
    /// What the route's path pattern captured, percent-decoded, in the pattern's order.
    pub params: Params,
}
