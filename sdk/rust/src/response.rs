//! The response, as a handler reads and makes it.

use crate::answers::{headers, number, optional_text};
use crate::context::{Context, StreamState};
use crate::error::{Error, ErrorKind, Result};
use crate::request::{field, header_name};
use crate::stream::ResponseStream;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use nylon_abi::method;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use std::time::Duration;

/// What has to be escaped in a URL that is one otherwise; not `%`, since it may be escaped already.
const URL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The response of an exchange: in `request_filter` a draft that only [`Context::end`] sends, the service's own later.
///
/// Methods that change it give it back, so that they chain: `ctx.response().set_status(403)?.body_text("no")?`.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    context: &'a Context,
}

impl<'a> Response<'a> {
    pub(crate) fn new(context: &'a Context) -> Response<'a> {
        Response { context }
    }

    /// Its status.
    pub fn status(self) -> Result<StatusCode> {
        let code: Option<u16> = self.context.ask(method::READ_RESPONSE_STATUS, &[], number)?;
        let status = code.and_then(|code| StatusCode::from_u16(code).ok());
        status.ok_or_else(|| crate::answers::malformed("a status"))
    }

    /// The value of a header; `None` where there is none of this name. Values of a name that occurs more than once are
    /// joined with `, `.
    pub fn header(self, name: &str) -> Result<Option<HeaderValue>> {
        self.context.ask_header(method::READ_RESPONSE_HEADER, method::READ_RESPONSE_HEADERS, name)
    }

    /// All headers. Values of a name that occurs more than once are joined, except those of `set-cookie`.
    pub fn headers(self) -> Result<HeaderMap> {
        self.context.ask(method::READ_RESPONSE_HEADERS, &[], headers)?
    }

    /// The size of its body in bytes as far as it is known; in `logging`, what was sent.
    pub fn bytes(self) -> Result<u64> {
        Ok(self.context.ask(method::READ_RESPONSE_BYTES, &[], number)?.unwrap_or(0))
    }

    /// How long the exchange took, in `logging`.
    pub fn duration(self) -> Result<Option<Duration>> {
        let milliseconds: Option<f64> = self.context.ask(method::READ_RESPONSE_DURATION, &[], number)?;
        Ok(milliseconds.and_then(|milliseconds| Duration::try_from_secs_f64(milliseconds / 1000.0).ok()))
    }

    /// Why the exchange failed, in `logging`.
    pub fn error(self) -> Result<Option<String>> {
        self.context.ask(method::READ_RESPONSE_ERROR, &[], optional_text)
    }

    /// Its body: whole in a `response_body_filter` that is not by chunk, elsewhere what a handler has set.
    pub fn body(self) -> Result<Vec<u8>> {
        self.context.ask(method::READ_RESPONSE_FULL_BODY, &[], <[u8]>::to_vec)
    }

    // ── changes ──

    /// Sets its status, 200 to 599.
    pub fn set_status(self, status: impl TryInto<StatusCode>) -> Result<Self> {
        let status = status.try_into().ok().filter(|status| (200..600).contains(&status.as_u16()));
        let Some(status) = status else {
            return Err(Error::new(
                ErrorKind::Invalid,
                "this status is not valid: a final status is 200 to 599",
            ));
        };
        self.change(method::SET_RESPONSE_STATUS, &status.as_u16().to_be_bytes())
    }

    /// Replaces all values of a header.
    pub fn set_header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self> {
        self.write_header(method::SET_RESPONSE_HEADER, name.as_ref(), value.as_ref())
    }

    /// Adds a value to a header.
    pub fn add_header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self> {
        self.write_header(method::ADD_RESPONSE_HEADER, name.as_ref(), value.as_ref())
    }

    /// Removes all values of a header.
    pub fn remove_header(self, name: impl AsRef<str>) -> Result<Self> {
        self.change(method::REMOVE_RESPONSE_HEADER, header_name(name.as_ref())?.as_str().as_bytes())
    }

    /// Replaces its body and leaves its content type alone.
    pub fn body_raw(self, body: impl AsRef<[u8]>) -> Result<Self> {
        self.change(method::SET_RESPONSE_FULL_BODY, body.as_ref())
    }

    /// Replaces its body by text. The content type follows, unless this handler has set one itself.
    pub fn body_text(self, text: impl AsRef<str>) -> Result<Self> {
        self.body_of_type(text.as_ref().as_bytes(), "text/plain; charset=utf-8")
    }

    /// Replaces its body by HTML. The content type follows, unless this handler has set one itself.
    pub fn body_html(self, html: impl AsRef<str>) -> Result<Self> {
        self.body_of_type(html.as_ref().as_bytes(), "text/html; charset=utf-8")
    }

    /// Replaces its body by JSON. The content type follows, unless this handler has set one itself.
    pub fn body_json(self, value: &impl Serialize) -> Result<Self> {
        let json = serde_json::to_vec(value).map_err(|error| {
            Error::new(ErrorKind::Body, format!("this cannot be written as JSON: {error}"))
        })?;
        self.body_of_type(&json, "application/json")
    }

    /// Leads the client to another URL, with 302. What a URL must not hold is percent-encoded.
    pub fn redirect(self, url: impl AsRef<str>) -> Result<Self> {
        self.redirect_with(url, 302)
    }

    /// Leads the client to another URL, with 301, 302, 303, 307 or 308.
    pub fn redirect_with(self, url: impl AsRef<str>, status: u16) -> Result<Self> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            let why = "use 301, 302, 303, 307 or 308";
            return Err(Error::invalid("redirect status", status.to_string().as_bytes(), why));
        }
        let url = utf8_percent_encode(url.as_ref(), URL).to_string();
        self.set_header(LOCATION, url)?.set_status(status)
    }

    /// Sends the head as it is now, as an `end` in `request_filter`; what is written to the stream follows.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] in the other phases, [`ErrorKind::Decided`] after a decision.
    pub fn stream(self) -> Result<ResponseStream<'a>> {
        self.context.begin_stream()?;
        Ok(ResponseStream::new(self.context))
    }

    fn body_of_type(self, body: &[u8], content_type: &str) -> Result<Self> {
        self.body_raw(body)?;
        if !self.context.chose_type.get() {
            self.change(
                method::SET_RESPONSE_HEADER,
                &field(CONTENT_TYPE.as_str(), content_type.as_bytes())?,
            )?;
        }
        Ok(self)
    }

    fn write_header(self, method: u32, name: &str, value: &[u8]) -> Result<Self> {
        self.change(method, &field(name, value)?)?;
        if name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()) {
            self.context.chose_type.set(true);
        }
        Ok(self)
    }

    fn change(self, method: u32, payload: &[u8]) -> Result<Self> {
        self.context.check_response_change()?;
        debug_assert_eq!(self.context.stream.get(), StreamState::None, "nothing changes after the head");
        self.context.tell(method, payload)?;
        Ok(self)
    }
}
