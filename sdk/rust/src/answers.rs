//! What the gateway answers, as Rust values.

use crate::error::{Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue};
use nylon_abi::fields;
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// Text, which the gateway sends as ASCII or UTF-8.
pub(crate) fn text(answer: &[u8]) -> String {
    match std::str::from_utf8(answer) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(answer).into_owned(),
    }
}

/// Text where there is any.
pub(crate) fn optional_text(answer: &[u8]) -> Option<String> {
    (!answer.is_empty()).then(|| text(answer))
}

/// Decimal digits; `None` where the gateway does not know.
pub(crate) fn number<T: FromStr>(answer: &[u8]) -> Option<T> {
    std::str::from_utf8(answer).ok()?.parse().ok()
}

pub(crate) fn header_value(answer: &[u8]) -> Result<HeaderValue> {
    HeaderValue::from_bytes(answer).map_err(|_| malformed("a header value"))
}

/// A list of headers.
pub(crate) fn headers(answer: &[u8]) -> Result<HeaderMap> {
    let list = fields::decode_fields(answer).map_err(|_| malformed("a list of headers"))?;
    let mut headers = HeaderMap::with_capacity(list.len());
    for (name, value) in list {
        let name = HeaderName::from_bytes(name).map_err(|_| malformed("a header name"))?;
        headers.append(name, header_value(value)?);
    }
    Ok(headers)
}

pub(crate) fn parse_json<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| {
        Error::new(ErrorKind::Body, format!("{what} is not what the handler expects: {error}"))
    })
}

pub(crate) fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Body, format!("the gateway answered with something that is not {what}"))
}
