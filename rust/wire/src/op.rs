//! One mutation as a small array: its number, then its arguments. A decoded one has been through the same
//! constructors as one that a handler made, so applying it cannot fail and cannot smuggle a line break.

use crate::error::WireError;
use crate::limits::{MAX_FRAME, MAX_NAME};
use crate::reader::Reader;
use crate::writer::Writer;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use nylon_core::head::MAX_TARGET_PART;
use nylon_core::{Op, TargetPart};
use rmp::Marker;

const SET_METHOD: u64 = 1;
const SET_PATH: u64 = 2;
const SET_QUERY: u64 = 3;
const SET_REQUEST_HEADER: u64 = 4;
const ADD_REQUEST_HEADER: u64 = 5;
const REMOVE_REQUEST_HEADER: u64 = 6;
const SET_REQUEST_BODY: u64 = 7;
const SET_STATUS: u64 = 8;
const SET_RESPONSE_HEADER: u64 = 9;
const ADD_RESPONSE_HEADER: u64 = 10;
const REMOVE_RESPONSE_HEADER: u64 = 11;
const SET_RESPONSE_BODY: u64 = 12;
const SET_CHUNK: u64 = 13;

/// Writes a mutation. `apart` is the size of a body that has travelled before it and is not written here.
pub(crate) fn write(writer: &mut Writer<'_>, op: &Op, apart: Option<u64>) {
    let bin = |writer: &mut Writer<'_>, number, body: &[u8]| {
        start(writer, number, 1);
        match apart {
            None => writer.bin(body),
            Some(size) => writer.uint(size),
        }
    };
    match op {
        Op::SetMethod(method) => text(writer, SET_METHOD, method.as_str()),
        Op::SetPath(path) => text(writer, SET_PATH, path.as_str()),
        Op::SetQuery(query) => text(writer, SET_QUERY, query.as_ref().map_or("", TargetPart::as_str)),
        Op::SetRequestHeader(name, value) => header(writer, SET_REQUEST_HEADER, name, value),
        Op::AddRequestHeader(name, value) => header(writer, ADD_REQUEST_HEADER, name, value),
        Op::RemoveRequestHeader(name) => text(writer, REMOVE_REQUEST_HEADER, name.as_str()),
        Op::SetRequestBody(body) => bin(writer, SET_REQUEST_BODY, body),
        Op::SetStatus(status) => {
            start(writer, SET_STATUS, 1);
            writer.uint(status.as_u16().into());
        }
        Op::SetResponseHeader(name, value) => header(writer, SET_RESPONSE_HEADER, name, value),
        Op::AddResponseHeader(name, value) => header(writer, ADD_RESPONSE_HEADER, name, value),
        Op::RemoveResponseHeader(name) => text(writer, REMOVE_RESPONSE_HEADER, name.as_str()),
        Op::SetResponseBody(body) => bin(writer, SET_RESPONSE_BODY, body),
        Op::SetChunk(data) => bin(writer, SET_CHUNK, data),
    }
}

fn start(writer: &mut Writer<'_>, number: u64, arguments: usize) {
    writer.array(1 + arguments);
    writer.uint(number);
}

fn text(writer: &mut Writer<'_>, number: u64, argument: &str) {
    start(writer, number, 1);
    writer.text(argument);
}

fn header(writer: &mut Writer<'_>, number: u64, name: &HeaderName, value: &HeaderValue) {
    start(writer, number, 2);
    writer.text(name.as_str());
    writer.bin(value.as_bytes());
}

/// Reads a mutation, and the size of its body where that has travelled before it.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<(Op, Option<u64>), WireError> {
    let items = reader.array("an operation", 16)?;
    let number = if items == 0 { 0 } else { reader.uint("an operation's number")? };
    let arguments = match number {
        SET_REQUEST_HEADER | ADD_REQUEST_HEADER | SET_RESPONSE_HEADER | ADD_RESPONSE_HEADER => 2,
        SET_METHOD..=SET_CHUNK => 1,
        // An operation left out would change what the handler meant: a later version's is refused.
        _ => return Err(WireError::Invalid { what: "an operation", why: "its number is not known" }),
    };
    if items != 1 + arguments {
        return Err(WireError::Invalid { what: "an operation", why: "it has the wrong number of arguments" });
    }
    let argument = "an operation's argument";
    let mut apart = None;
    let mut body = |reader: &mut Reader<'_>| match reader.peek() {
        Some(Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64) => {
            apart = Some(reader.uint(argument)?);
            Ok(Bytes::new())
        }
        _ => reader.shared(argument, MAX_FRAME),
    };
    let op = match number {
        SET_METHOD => Op::method(reader.text(argument, MAX_NAME)?)?,
        SET_PATH => Op::path(reader.text(argument, MAX_TARGET_PART)?)?,
        SET_QUERY => Op::query(reader.text(argument, MAX_TARGET_PART)?)?,
        SET_REQUEST_HEADER => Op::SetRequestHeader(name(reader)?, value(reader)?),
        ADD_REQUEST_HEADER => Op::AddRequestHeader(name(reader)?, value(reader)?),
        REMOVE_REQUEST_HEADER => Op::RemoveRequestHeader(name(reader)?),
        SET_REQUEST_BODY => Op::SetRequestBody(body(reader)?),
        SET_STATUS => Op::status(reader.small("the status")?)?,
        SET_RESPONSE_HEADER => Op::SetResponseHeader(name(reader)?, value(reader)?),
        ADD_RESPONSE_HEADER => Op::AddResponseHeader(name(reader)?, value(reader)?),
        REMOVE_RESPONSE_HEADER => Op::RemoveResponseHeader(name(reader)?),
        SET_RESPONSE_BODY => Op::SetResponseBody(body(reader)?),
        _ => Op::SetChunk(body(reader)?),
    };
    Ok((op, apart))
}

fn name(reader: &mut Reader<'_>) -> Result<HeaderName, WireError> {
    Ok(Op::header_name(reader.bytes("a header name", MAX_TARGET_PART)?)?)
}

fn value(reader: &mut Reader<'_>) -> Result<HeaderValue, WireError> {
    Ok(Op::header_value(reader.shared("a header value", MAX_FRAME)?)?)
}
