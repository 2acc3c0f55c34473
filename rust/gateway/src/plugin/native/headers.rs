//! All header fields as one answer: each name once, with its values joined, so that a plugin may keep them in a map;
//! `set-cookie`, which cannot be joined, as often as it occurs.

use http::{HeaderMap, header};
use nylon_abi::fields::{Field, encode_fields_into};
use nylon_core::joined;

/// Writes `headers` in the place of what `out` has held.
pub(super) fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    let mut together = Vec::new();
    // One line for each name is the rule.
    if headers.keys_len() == headers.len() {
        let lines: Vec<Field<'_>> =
            headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
        return encode_fields_into(out, lines.iter().copied());
    }
    for name in headers.keys() {
        let values = headers.get_all(name);
        if name == header::SET_COOKIE {
            together.extend(values.iter().map(|value| (name, value.as_bytes().to_vec())));
        } else {
            together.extend(joined(headers, name, |value| (name, value.to_vec())));
        }
    }
    encode_fields_into(out, together.iter().map(|(name, value)| (name.as_str().as_bytes(), &value[..])));
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use nylon_abi::fields::{decode_field, decode_fields, encode_field};
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = HeaderValue> {
        proptest::collection::vec(prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..40)
            .prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("such bytes are a value"))
    }

    fn names() -> impl Strategy<Value = HeaderName> {
        prop_oneof![Just("cookie".to_owned()), Just("set-cookie".to_owned()), "x-[a-z]{0,3}"]
            .prop_map(|name| name.parse().expect("a token"))
    }

    proptest! {
        #[test]
        fn a_field_reads_as_it_was_written(name: Vec<u8>, value: Vec<u8>) {
            let bytes = encode_field(&name, &value);
            prop_assert_eq!(decode_field(&bytes), Ok((&name[..], &value[..])));
        }

        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (decode_field(&bytes), decode_fields(&bytes));
        }

        #[test]
        fn a_damaged_field_is_read_within_its_bytes_or_refused(
            name in "[a-z]{1,9}",
            value in "[ -~]{0,30}",
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            kept in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode_field(name.as_bytes(), value.as_bytes());
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let kept = kept.index(bytes.len() + 1);
            for part in [&bytes[..], &bytes[..kept]] {
                if let Ok((name, value)) = decode_field(part) {
                    prop_assert!(name.len() <= part.len() && value.len() <= part.len());
                }
            }
        }

        #[test]
        fn a_list_has_each_name_once_with_all_its_values(
            lines in proptest::collection::vec((names(), values()), 0..20),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, value);
            }
            let mut list = b"what was here before".to_vec();
            write_fields(&mut list, &headers);
            let fields = decode_fields(&list).expect("what was written is read");
            for name in headers.keys() {
                let listed = fields.iter().filter(|(known, _)| *known == name.as_str().as_bytes());
                let listed: Vec<&[u8]> = listed.map(|(_, value)| *value).collect();
                let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                if name == header::SET_COOKIE {
                    prop_assert_eq!(listed, lines);
                } else {
                    let separator: &[u8] = if name == header::COOKIE { b"; " } else { b", " };
                    prop_assert_eq!(listed, [lines.join(separator)]);
                }
            }
        }
    }
}
