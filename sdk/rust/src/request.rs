//! The request, as a handler reads and changes it.

use crate::answers::{headers, malformed, number, parse_json, text};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::phase::Phase;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use nylon_abi::{fields, method};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// The request of an exchange. It can be changed in `request_filter`, before the service is called.
///
/// Methods that change it give it back, so that they chain: `ctx.request().set_path("/a")?.set_header("x-a", "1")?`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    context: &'a Context,
}

impl<'a> Request<'a> {
    pub(crate) fn new(context: &'a Context) -> Request<'a> {
        Request { context }
    }

    /// Its method.
    pub fn method(self) -> Result<Method> {
        let method = self.context.ask(method::READ_REQUEST_METHOD, &[], Method::from_bytes)?;
        method.map_err(|_| malformed("a method"))
    }

    /// Its path, percent-encoded.
    pub fn path(self) -> Result<String> {
        self.context.ask(method::READ_REQUEST_PATH, &[], text)
    }

    /// Its query as it was written, empty where there is none.
    pub fn query(self) -> Result<String> {
        self.context.ask(method::READ_REQUEST_QUERY, &[], text)
    }

    /// The names and values of its query, decoded.
    pub fn query_params(self) -> Result<Vec<(String, String)>> {
        self.context.ask(method::READ_REQUEST_QUERY, &[], |query| {
            form_urlencoded::parse(query).into_owned().collect()
        })
    }

    /// The URL that the client asked for: scheme, host, path and query.
    pub fn url(self) -> Result<String> {
        self.context.ask(method::READ_REQUEST_URL, &[], text)
    }

    /// The host that the client asked for, with its port where it named one.
    pub fn host(self) -> Result<String> {
        self.context.ask(method::READ_REQUEST_HOST, &[], text)
    }

    /// `http` or `https`.
    pub fn scheme(self) -> Result<String> {
        self.context.ask(method::READ_REQUEST_SCHEME, &[], text)
    }

    /// The client's version of HTTP, such as `1.1`.
    pub fn http_version(self) -> Result<String> {
        self.context.ask(method::READ_REQUEST_HTTP_VERSION, &[], text)
    }

    /// The client's address.
    pub fn client_ip(self) -> Result<IpAddr> {
        self.context.ask(method::READ_REQUEST_CLIENT_IP, &[], number)?.ok_or_else(|| malformed("an address"))
    }

    /// What the pattern of the route found in the path, decoded.
    pub fn params(self) -> Result<BTreeMap<String, String>> {
        self.context.ask(method::READ_REQUEST_PARAMS, &[], |params| match params {
            b"" => Ok(BTreeMap::new()),
            _ => parse_json("the list of params", params),
        })?
    }

    /// The value of a header; `None` where there is none of this name. Values of a name that occurs more than once are
    /// joined, with `, ` (`cookie`: `; `).
    pub fn header(self, name: &str) -> Result<Option<HeaderValue>> {
        self.context.ask_header(method::READ_REQUEST_HEADER, method::READ_REQUEST_HEADERS, name)
    }

    /// All headers. Values of a name that occurs more than once are joined, except those of `set-cookie`.
    pub fn headers(self) -> Result<HeaderMap> {
        self.context.ask(method::READ_REQUEST_HEADERS, &[], headers)?
    }

    /// Its cookies.
    pub fn cookies(self) -> Result<BTreeMap<String, String>> {
        let Some(header) = self.header("cookie")? else { return Ok(BTreeMap::new()) };
        let header = text(header.as_bytes());
        let pair =
            |pair: &str| pair.trim().split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(header.split(';').filter_map(pair).collect())
    }

    /// The size of its body in bytes, as far as it is known.
    pub fn bytes(self) -> Result<u64> {
        Ok(self.context.ask(method::READ_REQUEST_BYTES, &[], number)?.unwrap_or(0))
    }

    /// When it came.
    pub fn timestamp(self) -> Result<SystemTime> {
        let milliseconds = self.context.ask(method::READ_REQUEST_TIMESTAMP, &[], number)?.unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds))
    }

    /// Its body.
    ///
    /// # Errors
    /// [`ErrorKind::Body`] in a `request_filter` that was not registered `_with_body` and is not deferred: reading it
    /// would block a thread that serves other requests.
    pub fn body(self) -> Result<Vec<u8>> {
        let context = self.context;
        let wants = context.session.entry().wants.body;
        if context.phase() == Phase::RequestFilter && !wants && !context.may_wait() {
            let why = "the request's body has not been read: register the handler with request_filter_with_body, or \
                       read it from a Deferred";
            return Err(Error::new(ErrorKind::Body, why));
        }
        context.ask(method::READ_REQUEST_FULL_BODY, &[], <[u8]>::to_vec)
    }

    /// Its body as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Body`] where it is not, and as for [`Request::body`].
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        parse_json("the request's body", &self.body()?)
    }

    // ── changes ──

    /// Replaces its method.
    pub fn set_method(self, method: impl AsRef<str>) -> Result<Self> {
        let text = method.as_ref().as_bytes();
        match Method::from_bytes(text) {
            Ok(Method::CONNECT) => Err(Error::invalid("method", text, "a gateway does not open tunnels")),
            Ok(_) => self.change(method::SET_REQUEST_METHOD, text),
            Err(_) => Err(Error::invalid("method", text, "a method is a token, such as GET")),
        }
    }

    /// Replaces its path; the query stays.
    pub fn set_path(self, path: impl AsRef<str>) -> Result<Self> {
        let path = path.as_ref().as_bytes();
        if !path.starts_with(b"/") || path.contains(&b'?') || !is_of_target(path) {
            let why = "a path starts with '/' and is percent-encoded ASCII without '?' or '#'";
            return Err(Error::invalid("path", path, why));
        }
        self.change(method::SET_REQUEST_PATH, path)
    }

    /// Replaces its query; an empty text removes it.
    pub fn set_query(self, query: impl AsRef<str>) -> Result<Self> {
        let query = query.as_ref().as_bytes();
        if !is_of_target(query) {
            return Err(Error::invalid("query", query, "a query is percent-encoded ASCII without '#'"));
        }
        self.change(method::SET_REQUEST_QUERY, query)
    }

    /// Replaces all values of a header.
    pub fn set_header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self> {
        self.change(method::SET_REQUEST_HEADER, &field(name.as_ref(), value.as_ref())?)
    }

    /// Adds a value to a header.
    pub fn add_header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self> {
        self.change(method::ADD_REQUEST_HEADER, &field(name.as_ref(), value.as_ref())?)
    }

    /// Removes all values of a header.
    pub fn remove_header(self, name: impl AsRef<str>) -> Result<Self> {
        self.change(method::REMOVE_REQUEST_HEADER, header_name(name.as_ref())?.as_str().as_bytes())
    }

    /// Replaces its body; the gateway puts `content-length` right.
    pub fn set_body(self, body: impl AsRef<[u8]>) -> Result<Self> {
        self.change(method::SET_REQUEST_BODY, body.as_ref())
    }

    fn change(self, method: u32, payload: &[u8]) -> Result<Self> {
        self.context.check_request_change()?;
        self.context.tell(method, payload)?;
        Ok(self)
    }
}

/// Whether this may stand in a request's target, as the gateway checks it too.
fn is_of_target(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte.is_ascii_graphic() && !br#"#"<>\^`{|}"#.contains(&byte))
}

/// A header that is legal HTTP, as it is sent.
pub(crate) fn field(name: &str, value: &[u8]) -> Result<Vec<u8>> {
    let name = header_name(name)?;
    HeaderValue::from_bytes(value).map_err(|_| {
        Error::invalid("header value", value, "it holds no line break, NUL or other control character")
    })?;
    Ok(fields::encode_field(name.as_str().as_bytes(), value))
}

pub(crate) fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        Error::invalid("header name", name.as_bytes(), "a field name is a token, such as x-user")
    })
}
