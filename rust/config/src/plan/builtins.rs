//! The built-ins that a middleware can be, with their settings as run.

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use nylon_core::template::Template;
use nylon_core::{Phase, PhaseMask, Scheme};

use super::MediaPattern;

/// Users who log in.
mod basic_auth;
/// Requests by the client's address.
mod ip_filter;
/// Tokens.
mod jwt_auth;
/// How many requests are let through.
mod rate_limit;

pub use basic_auth::*;
pub use ip_filter::*;
pub use jwt_auth::*;
pub use rate_limit::*;

/// A plugin of the gateway's own.
#[derive(Debug, Clone, PartialEq)]
pub enum Builtin {
    /// Changes the fields that the service gets.
    RequestHeaderModifier(HeaderChanges),
    /// Changes the fields that the client gets.
    ResponseHeaderModifier(HeaderChanges),
    /// Lets pages of other sites read responses.
    Cors(Cors),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Names the request to the service and the client.
    RequestId(RequestIdField),
    /// Compresses responses.
    Compress(Compress),
    /// Lets through so many requests in a time.
    RateLimit(Box<RateLimit>),
    /// Lets requests through by the client's address.
    IpFilter(IpFilter),
    /// Lets users through who log in.
    BasicAuth(BasicAuth),
    /// Lets requests through that come with a token.
    JwtAuth(Box<JwtAuth>),
}

impl Builtin {
    /// Its name, as `plugin` says it.
    pub fn name(&self) -> &'static str {
        match self {
            Builtin::RequestHeaderModifier(_) => "RequestHeaderModifier",
            Builtin::ResponseHeaderModifier(_) => "ResponseHeaderModifier",
            Builtin::Cors(_) => "Cors",
            Builtin::Redirect(_) => "Redirect",
            Builtin::RequestId(_) => "RequestId",
            Builtin::Compress(_) => "Compress",
            Builtin::RateLimit(_) => "RateLimit",
            Builtin::IpFilter(_) => "IpFilter",
            Builtin::BasicAuth(_) => "BasicAuth",
            Builtin::JwtAuth(_) => "JwtAuth",
        }
    }

    /// The phases in which it is called.
    pub fn phases(&self) -> PhaseMask {
        let phases: &[Phase] = match self {
            Builtin::RequestHeaderModifier(_) | Builtin::Redirect(_) => &[Phase::RequestFilter],
            Builtin::ResponseHeaderModifier(_) => &[Phase::ResponseFilter],
            Builtin::Cors(_) => &[Phase::RequestFilter, Phase::ResponseFilter],
            Builtin::RequestId(field) if field.response => &[Phase::RequestFilter, Phase::ResponseFilter],
            Builtin::RequestId(_) => &[Phase::RequestFilter],
            Builtin::Compress(_) => &[Phase::RequestFilter, Phase::ResponseBodyFilter],
            Builtin::RateLimit(limit) if limit.headers == LimitHeaders::Always => {
                &[Phase::RequestFilter, Phase::ResponseFilter]
            }
            Builtin::RateLimit(_) | Builtin::IpFilter(_) | Builtin::BasicAuth(_) | Builtin::JwtAuth(_) => {
                &[Phase::RequestFilter]
            }
        };
        phases.iter().copied().collect()
    }
}

/// What becomes of the fields of a head: `remove`, then `set`, then `add`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderChanges {
    /// Fields that are taken out.
    pub remove: Vec<HeaderName>,
    /// Fields that get one value instead of all that they had.
    pub set: Vec<(HeaderName, Template)>,
    /// Fields that get a value beside those that they have.
    pub add: Vec<(HeaderName, Template)>,
}

/// All of something, or those that are listed.
#[derive(Debug, Clone, PartialEq)]
pub enum Allowed<T> {
    /// Written `*`.
    All,
    /// These.
    Listed(Vec<T>),
}

/// Which pages of other sites may read responses.
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// Their origins. Never all where `credentials` go along.
    pub origins: Allowed<OriginPattern>,
    /// The methods that they may use.
    pub methods: Allowed<Method>,
    /// The request fields that they may set.
    pub headers: Allowed<HeaderName>,
    /// The response fields that they may read.
    pub exposed: Allowed<HeaderName>,
    /// Whether cookies and the like go along.
    pub credentials: bool,
    /// For how long a browser keeps the answer to a preflight.
    pub max_age: Option<Duration>,
    /// Whether requests from other origins are refused.
    pub refuse_others: bool,
}

/// Origins that are allowed, as browsers write them: in lower case, without a port that goes without saying.
#[derive(Debug, Clone, PartialEq)]
pub enum OriginPattern {
    /// This one.
    Exact(String),
    /// Every host between these two: `https://` and `.example.com:8443`.
    Below {
        /// The scheme with its `://`.
        scheme: String,
        /// The rest, from its first dot on.
        suffix: String,
    },
}

/// Where a client is sent instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// The status, a 3xx.
    pub status: StatusCode,
    /// Where to.
    pub target: RedirectTarget,
    /// Whether the request's query is kept where the target has none.
    pub keep_query: bool,
}

/// Where a redirect leads.
#[derive(Debug, Clone, PartialEq)]
pub enum RedirectTarget {
    /// A URL or a path, of which no request can change the host.
    Whole(Template),
    /// The request's own URL, but for these parts. At least one is there.
    Parts {
        /// The scheme.
        scheme: Option<Scheme>,
        /// The host, perhaps with a port.
        host: Option<Template>,
        /// The port.
        port: Option<u16>,
        /// The path.
        path: Option<Template>,
    },
}

/// A field that names the request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestIdField {
    /// The field.
    pub header: HeaderName,
    /// Whether a well-formed id that the client sent is kept.
    pub trust_incoming: bool,
    /// Whether the response gets the field too.
    pub response: bool,
}

/// Which responses are compressed, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Compress {
    /// What is offered, with its level, the preferred first. Never empty, none twice.
    pub encodings: Vec<(Encoding, u32)>,
    /// The media types.
    pub content_types: Vec<MediaPattern>,
    /// Bytes below which a body is left as it is, where its length is known.
    pub min_bytes: u64,
}

/// A content encoding (RFC 9110, 8.4.1; RFC 7932; RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`
    Gzip,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
}

impl Encoding {
    /// Its name in `content-encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Gzip => "gzip",
            Encoding::Brotli => "br",
            Encoding::Zstd => "zstd",
        }
    }
}
