//! JSON values as MessagePack: what a handler's payload is on the wire and in its context.

use bytes::Bytes;
use rmp::encode;
use serde_json::Value;

/// `value` as MessagePack. A number that fits an integer stays one.
pub(crate) fn encode(value: &Value) -> Bytes {
    let mut buffer = encode::buffer::ByteBuf::new();
    put(&mut buffer, value);
    Bytes::from(buffer.into_vec())
}

fn put(to: &mut encode::buffer::ByteBuf, value: &Value) {
    const GROWS: &str = "a buffer in memory takes any write";
    const SIZE: &str = "a configuration is far smaller than 4 GiB";
    match value {
        Value::Null => encode::write_nil(to).expect(GROWS),
        Value::Bool(value) => encode::write_bool(to, *value).expect(GROWS),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => drop(encode::write_uint(to, value).expect(GROWS)),
            (None, Some(value)) => drop(encode::write_sint(to, value).expect(GROWS)),
            (None, None) => encode::write_f64(to, number.as_f64().unwrap_or(f64::NAN)).expect(GROWS),
        },
        Value::String(text) => encode::write_str(to, text).expect(GROWS),
        Value::Array(items) => {
            encode::write_array_len(to, u32::try_from(items.len()).expect(SIZE)).expect(GROWS);
            items.iter().for_each(|item| put(to, item));
        }
        Value::Object(entries) => {
            encode::write_map_len(to, u32::try_from(entries.len()).expect(SIZE)).expect(GROWS);
            for (key, item) in entries {
                encode::write_str(to, key).expect(GROWS);
                put(to, item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_encoded() {
        let value = serde_json::json!({"a": [null, true, -1, 300, 1.5, "x"]});
        let bytes = encode(&value);
        let expected: &[u8] = &[
            0x81, 0xa1, b'a', 0x96, 0xc0, 0xc3, 0xff, 0xcd, 0x01, 0x2c, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0,
            0xa1, b'x',
        ];
        assert_eq!(&bytes[..], expected);
    }
}
