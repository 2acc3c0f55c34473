//! Heads, facts and bodies: the parts of a call, each a map of its own, so that a worker passes over the ones
//! that it does not need yet. Header names and values travel as pairs of bytes: order among equal names,
//! duplicates and non-UTF-8 values survive.

use crate::envelope::{read_map, required};
use crate::error::WireError;
use crate::limits::{MAX_FRAME, MAX_HEADERS, MAX_MESSAGE, MAX_NAME, MAX_PARAMS};
use crate::reader::Reader;
use crate::writer::Writer;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use nylon_core::head::MAX_TARGET_PART;
use nylon_core::{
    Chunk, Params, RequestFacts, RequestHead, RequestId, ResponseHead, Scheme, Sent, TargetPart,
};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Longest method name; none in use has more than 17 letters.
const MAX_METHOD: usize = 64;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn write_facts(writer: &mut Writer<'_>, facts: &RequestFacts) {
    let mut map = writer.open();
    writer.key(&mut map, "id").bin(&facts.id.0);
    writer.key(&mut map, "sc").text(facts.scheme.name());
    writer.key(&mut map, "h").text(facts.host.as_str());
    let ip = writer.key(&mut map, "ip");
    match facts.client_ip {
        IpAddr::V4(ip4) => ip.bin(&ip4.octets()),
        IpAddr::V6(ip6) => ip.bin(&ip6.octets()),
    }
    let since = facts.received_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    writer.key(&mut map, "at").uint(nanos(since));
    if !facts.params.is_empty() {
        writer.key(&mut map, "pm").array(facts.params.len());
        for (name, value) in facts.params.iter() {
            writer.array(2);
            writer.text(name);
            writer.text(value);
        }
    }
    writer.close(map);
}

pub(crate) fn read_facts(section: &Bytes) -> Result<RequestFacts, WireError> {
    let mut reader = Reader::new(section);
    let (mut id, mut scheme, mut host, mut ip, mut at) = (None, None, None, None, 0);
    let mut params = Vec::new();
    read_map(&mut reader, "the facts", |key, reader| {
        match key {
            b"id" => id = Some(RequestId(reader.exactly("the request id")?)),
            b"sc" => {
                scheme = match reader.text("the scheme", MAX_NAME)? {
                    "http" => Some(Scheme::Http),
                    "https" => Some(Scheme::Https),
                    _ => {
                        return Err(WireError::Invalid { what: "the scheme", why: "it is http or https" });
                    }
                }
            }
            b"h" => {
                const WHY: &str = "it is a host with or without a port";
                let bytes = reader.shared("the host", MAX_TARGET_PART)?;
                host = Some(
                    Authority::from_maybe_shared(bytes)
                        .map_err(|_| WireError::Invalid { what: "the host", why: WHY })?,
                );
            }
            b"ip" => {
                let bytes = reader.bytes("the client's address", 16)?;
                ip = Some(if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
                    IpAddr::from(octets)
                } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
                    IpAddr::from(octets)
                } else {
                    return Err(WireError::Invalid {
                        what: "the client's address",
                        why: "it has 4 or 16 bytes",
                    });
                });
            }
            b"at" => at = reader.uint("the time of arrival")?,
            b"pm" => {
                for _ in 0..reader.array("the path parameters", MAX_PARAMS)? {
                    pair(reader)?;
                    let name = reader.text("a parameter's name", MAX_TARGET_PART)?;
                    params.push((name, reader.text("a parameter's value", MAX_TARGET_PART)?));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let epoch = SystemTime::UNIX_EPOCH;
    Ok(RequestFacts {
        id: required(id, "request id (f.id)")?,
        scheme: required(scheme, "scheme (f.sc)")?,
        host: required(host, "host (f.h)")?,
        client_ip: required(ip, "client address (f.ip)")?,
        received_at: epoch.checked_add(Duration::from_nanos(at)).unwrap_or(epoch),
        params: Params::new(params),
    })
}

pub(crate) fn write_request(writer: &mut Writer<'_>, head: &RequestHead) -> Result<(), WireError> {
    let mut map = writer.open();
    writer.key(&mut map, "m").text(head.method.as_str());
    writer.key(&mut map, "p").text(head.path.as_str());
    if let Some(query) = &head.query {
        writer.key(&mut map, "q").text(query.as_str());
    }
    let version = match head.version {
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        Version::HTTP_3 => 30,
        _ => 11,
    };
    writer.key(&mut map, "ver").uint(version);
    write_headers(writer.key(&mut map, "h"), &head.headers)?;
    writer.close(map);
    Ok(())
}

pub(crate) fn read_request(section: &Bytes) -> Result<RequestHead, WireError> {
    let mut reader = Reader::new(section);
    let (mut method, mut path, mut query) = (None, None, None);
    let (mut version, mut headers) = (Version::HTTP_11, HeaderMap::new());
    read_map(&mut reader, "the request head", |key, reader| {
        match key {
            b"m" => {
                let what = "the method";
                let name = reader.bytes(what, MAX_METHOD)?;
                method = Some(
                    Method::from_bytes(name)
                        .map_err(|_| WireError::Invalid { what, why: "a method is a token" })?,
                );
            }
            b"p" => {
                let (what, why) = ("the path", "it is percent-encoded and starts with '/'");
                let text = reader.shared(what, MAX_TARGET_PART)?;
                path = Some(TargetPart::path(text).ok_or(WireError::Invalid { what, why })?);
            }
            b"q" => {
                let (what, why) = ("the query", "it is percent-encoded");
                let text = reader.shared(what, MAX_TARGET_PART)?;
                query = Some(TargetPart::query(text).ok_or(WireError::Invalid { what, why })?);
            }
            b"ver" => {
                version = match reader.uint("the HTTP version")? {
                    10 => Version::HTTP_10,
                    20 => Version::HTTP_2,
                    30 => Version::HTTP_3,
                    _ => Version::HTTP_11,
                }
            }
            b"h" => headers = read_headers(reader)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(RequestHead {
        method: required(method, "method (q.m)")?,
        path: required(path, "path (q.p)")?,
        query,
        version,
        headers,
    })
}

pub(crate) fn write_response(writer: &mut Writer<'_>, head: &ResponseHead) -> Result<(), WireError> {
    let mut map = writer.open();
    writer.key(&mut map, "s").uint(head.status.as_u16().into());
    write_headers(writer.key(&mut map, "h"), &head.headers)?;
    writer.close(map);
    Ok(())
}

pub(crate) fn read_response(section: &Bytes) -> Result<ResponseHead, WireError> {
    let mut reader = Reader::new(section);
    let (mut status, mut headers) = (None, HeaderMap::new());
    read_map(&mut reader, "the response head", |key, reader| {
        match key {
            b"s" => {
                let (what, why) = ("the status", "it is 100 to 999");
                let code = reader.small(what)?;
                status = Some(StatusCode::from_u16(code).map_err(|_| WireError::Invalid { what, why })?);
            }
            b"h" => headers = read_headers(reader)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(ResponseHead { status: required(status, "status (r.s)")?, headers })
}

fn write_headers(writer: &mut Writer<'_>, headers: &HeaderMap) -> Result<(), WireError> {
    if headers.len() > MAX_HEADERS {
        return Err(WireError::TooLarge { what: "a head", limit: MAX_HEADERS });
    }
    writer.array(headers.len());
    for (name, value) in headers {
        writer.array(2);
        writer.text(name.as_str());
        writer.bin(value.as_bytes());
    }
    Ok(())
}

fn read_headers(reader: &mut Reader<'_>) -> Result<HeaderMap, WireError> {
    let count = reader.array("the headers", MAX_HEADERS)?;
    let mut headers = HeaderMap::with_capacity(count);
    for _ in 0..count {
        pair(reader)?;
        let name = read_name(reader)?;
        let value = reader.shared("a header value", MAX_FRAME)?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| WireError::Invalid {
            what: "a header value",
            why: "it holds a control character",
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn read_name(reader: &mut Reader<'_>) -> Result<HeaderName, WireError> {
    let what = "a header name";
    HeaderName::from_bytes(reader.bytes(what, MAX_TARGET_PART)?)
        .map_err(|_| WireError::Invalid { what, why: "a field name is a token" })
}

fn pair(reader: &mut Reader<'_>) -> Result<(), WireError> {
    match reader.array("a pair", 2)? {
        2 => Ok(()),
        _ => Err(WireError::Type { what: "a pair", expected: "an array of two" }),
    }
}

pub(crate) fn write_sent(writer: &mut Writer<'_>, sent: &Sent) {
    let mut map = writer.open();
    writer.key(&mut map, "b").uint(sent.bytes);
    if let Some(duration) = sent.duration {
        writer.key(&mut map, "d").uint(nanos(duration));
    }
    if let Some(error) = &sent.error {
        writer.key(&mut map, "e").text(shorten(error));
    }
    writer.close(map);
}

pub(crate) fn read_sent(section: &Bytes) -> Result<Sent, WireError> {
    let mut sent = Sent::default();
    read_map(&mut Reader::new(section), "what was sent", |key, reader| {
        match key {
            b"b" => sent.bytes = reader.uint("the bytes sent")?,
            b"d" => sent.duration = Some(Duration::from_nanos(reader.uint("the duration")?)),
            b"e" => sent.error = Some(reader.text("the exchange's error", MAX_MESSAGE)?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(sent)
}

pub(crate) fn write_chunk(writer: &mut Writer<'_>, chunk: &Chunk) {
    let mut map = writer.open();
    writer.key(&mut map, "d").bin(&chunk.data);
    writer.key(&mut map, "end").boolean(chunk.end_of_stream);
    writer.close(map);
}

pub(crate) fn read_chunk(section: &Bytes) -> Result<Chunk, WireError> {
    let mut chunk = Chunk::default();
    read_map(&mut Reader::new(section), "the chunk", |key, reader| {
        match key {
            b"d" => chunk.data = reader.shared("the chunk", MAX_FRAME)?,
            b"end" => chunk.end_of_stream = reader.boolean("the end of the stream")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(chunk)
}

/// Cuts a text for people at its limit, never inside a character.
pub(crate) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_MESSAGE)]
}
