//! A middleware's payload as JSON: it travels as MessagePack, which handlers of other hosts want.

use rmp::Marker;
use rmp::decode::{RmpRead, read_marker};
use std::io::Write as _;

/// The depth at which a payload ends. The configuration's own reader stops earlier.
const MAX_DEPTH: usize = 128;

/// Writes `msgpack` as JSON; nothing for nothing, and for what is not MessagePack.
pub(super) fn write_json(mut msgpack: &[u8], out: &mut Vec<u8>) {
    if !msgpack.is_empty() && value(&mut msgpack, out, MAX_DEPTH).is_none() {
        out.clear();
    }
}

fn bytes<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    from.split_off(..length)
}

fn text(from: &mut &[u8], length: usize, out: &mut Vec<u8>) -> Option<()> {
    let text = String::from_utf8_lossy(bytes(from, length)?);
    serde_json::to_writer(out, &*text).ok()
}

fn sized(from: &mut &[u8], width: usize) -> Option<usize> {
    let bytes = bytes(from, width)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn value(from: &mut &[u8], out: &mut Vec<u8>, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match read_marker(from).ok()? {
        Marker::Null => out.extend_from_slice(b"null"),
        Marker::True => out.extend_from_slice(b"true"),
        Marker::False => out.extend_from_slice(b"false"),
        Marker::FixPos(number) => write!(out, "{number}").ok()?,
        Marker::FixNeg(number) => write!(out, "{number}").ok()?,
        Marker::U8 => write!(out, "{}", from.read_data_u8().ok()?).ok()?,
        Marker::U16 => write!(out, "{}", from.read_data_u16().ok()?).ok()?,
        Marker::U32 => write!(out, "{}", from.read_data_u32().ok()?).ok()?,
        Marker::U64 => write!(out, "{}", from.read_data_u64().ok()?).ok()?,
        Marker::I8 => write!(out, "{}", from.read_data_i8().ok()?).ok()?,
        Marker::I16 => write!(out, "{}", from.read_data_i16().ok()?).ok()?,
        Marker::I32 => write!(out, "{}", from.read_data_i32().ok()?).ok()?,
        Marker::I64 => write!(out, "{}", from.read_data_i64().ok()?).ok()?,
        Marker::F32 => serde_json::to_writer(out, &from.read_data_f32().ok()?).ok()?,
        Marker::F64 => serde_json::to_writer(out, &from.read_data_f64().ok()?).ok()?,
        Marker::FixStr(length) => text(from, length.into(), out)?,
        Marker::Str8 | Marker::Bin8 => sized(from, 1).and_then(|length| text(from, length, out))?,
        Marker::Str16 | Marker::Bin16 => sized(from, 2).and_then(|length| text(from, length, out))?,
        Marker::Str32 | Marker::Bin32 => sized(from, 4).and_then(|length| text(from, length, out))?,
        Marker::FixArray(length) => array(from, length.into(), out, depth)?,
        Marker::Array16 => sized(from, 2).and_then(|length| array(from, length, out, depth))?,
        Marker::Array32 => sized(from, 4).and_then(|length| array(from, length, out, depth))?,
        Marker::FixMap(length) => map(from, length.into(), out, depth)?,
        Marker::Map16 => sized(from, 2).and_then(|length| map(from, length, out, depth))?,
        Marker::Map32 => sized(from, 4).and_then(|length| map(from, length, out, depth))?,
        _ => return None,
    }
    Some(())
}

fn array(from: &mut &[u8], length: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    out.push(b'[');
    for index in 0..length {
        if index > 0 {
            out.push(b',');
        }
        value(from, out, depth)?;
    }
    out.push(b']');
    Some(())
}

fn map(from: &mut &[u8], length: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    out.push(b'{');
    for index in 0..length {
        if index > 0 {
            out.push(b',');
        }
        value(from, out, depth)?;
        out.push(b':');
        value(from, out, depth)?;
    }
    out.push(b'}');
    Some(())
}
