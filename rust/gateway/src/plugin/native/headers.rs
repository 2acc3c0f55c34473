//! Header fields as FlatBuffers: `HeaderKeyValue { key: string (required); value: string (required); }` and
//! `NylonHttpHeaders { headers: [HeaderKeyValue]; }`.
//!
//! A string is read and written as bytes, since a field's value need not be UTF-8. What a library passes is verified
//! before anything in it is followed.

use flatbuffers::{
    FlatBufferBuilder, Follow, ForwardsUOffset, InvalidFlatbuffer, Table, TableFinishedWIPOffset, Vector,
    Verifiable, Verifier, WIPOffset,
};
use http::{HeaderMap, header};
use nylon_core::joined;

const KEY: u16 = 4;
const VALUE: u16 = 6;
const HEADERS: u16 = 4;

type Text<'a> = ForwardsUOffset<Vector<'a, u8>>;
type List<'a> = ForwardsUOffset<Vector<'a, ForwardsUOffset<Field<'a>>>>;

/// Name and value of a field.
pub type FieldBytes<'a> = (&'a [u8], &'a [u8]);

/// One field.
struct Field<'a>(Table<'a>);

impl<'a> Follow<'a> for Field<'a> {
    type Inner = Field<'a>;

    unsafe fn follow(buffer: &'a [u8], at: usize) -> Field<'a> {
        // SAFETY: the caller knows that a table stands there.
        Field(unsafe { Table::new(buffer, at) })
    }
}

impl Verifiable for Field<'_> {
    fn run_verifier(verifier: &mut Verifier<'_, '_>, at: usize) -> Result<(), InvalidFlatbuffer> {
        let table = verifier.visit_table(at)?;
        table
            .visit_field::<Text<'_>>("key", KEY, true)?
            .visit_field::<Text<'_>>("value", VALUE, true)?
            .finish();
        Ok(())
    }
}

impl<'a> Field<'a> {
    fn text(&self, slot: u16) -> &'a [u8] {
        // SAFETY: the verifier has seen that this slot, if it is there, holds a vector of bytes.
        let found = unsafe { self.0.get::<Text<'a>>(slot, None) };
        found.map_or(&[], |text| text.bytes())
    }
}

/// Name and value of the `HeaderKeyValue` that `bytes` are.
///
/// # Errors
/// The text says what is wrong with them.
pub fn read_field(bytes: &[u8]) -> Result<FieldBytes<'_>, String> {
    match flatbuffers::root::<Field<'_>>(bytes) {
        Ok(field) => Ok((field.text(KEY), field.text(VALUE))),
        Err(error) => Err(reason(&error)),
    }
}

/// A list of them.
struct Fields<'a>(Table<'a>);

impl<'a> Follow<'a> for Fields<'a> {
    type Inner = Fields<'a>;

    unsafe fn follow(buffer: &'a [u8], at: usize) -> Fields<'a> {
        // SAFETY: the caller knows that a table stands there.
        Fields(unsafe { Table::new(buffer, at) })
    }
}

impl Verifiable for Fields<'_> {
    fn run_verifier(verifier: &mut Verifier<'_, '_>, at: usize) -> Result<(), InvalidFlatbuffer> {
        let table = verifier.visit_table(at)?;
        table.visit_field::<List<'_>>("headers", HEADERS, false)?.finish();
        Ok(())
    }
}

/// Names and values of the `NylonHttpHeaders` that `bytes` are: what a plugin makes of the gateway's answer.
///
/// # Errors
/// The text says what is wrong with them.
pub fn read_fields(bytes: &[u8]) -> Result<Vec<FieldBytes<'_>>, String> {
    let fields = flatbuffers::root::<Fields<'_>>(bytes).map_err(|error| reason(&error))?;
    // SAFETY: the verifier has seen that this slot, if it is there, holds a vector of fields.
    let list = unsafe { fields.0.get::<List<'_>>(HEADERS, None) };
    Ok(list.iter().flat_map(|list| list.iter()).map(|field| (field.text(KEY), field.text(VALUE))).collect())
}

/// The first sentence of the verifier's story.
fn reason(error: &InvalidFlatbuffer) -> String {
    error.to_string().split('.').next().unwrap_or_default().trim().to_owned()
}

/// Writes all fields as `NylonHttpHeaders` into `builder`, each name once, with its values joined; `set-cookie`, which
/// cannot be joined, as often as it occurs.
pub(super) fn write_fields(builder: &mut FlatBufferBuilder<'_>, fields: &HeaderMap) {
    builder.reset();
    let mut tables = Vec::with_capacity(fields.len());
    for name in fields.keys() {
        let mut push = |value: &[u8]| tables.push(write_field(builder, name.as_str().as_bytes(), value));
        if name == header::SET_COOKIE {
            fields.get_all(name).iter().for_each(|value| push(value.as_bytes()));
        } else {
            joined(fields, name, |value| push(value));
        }
    }
    let tables = builder.create_vector(&tables);
    let list = builder.start_table();
    builder.push_slot_always(HEADERS, tables);
    let list = builder.end_table(list);
    builder.finish_minimal(list);
}

fn write_field(
    builder: &mut FlatBufferBuilder<'_>,
    name: &[u8],
    value: &[u8],
) -> WIPOffset<TableFinishedWIPOffset> {
    let name = builder.create_byte_string(name);
    let value = builder.create_byte_string(value);
    let table = builder.start_table();
    builder.push_slot_always(KEY, name);
    builder.push_slot_always(VALUE, value);
    builder.end_table(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let table = write_field(&mut builder, name, value);
        builder.finish_minimal(table);
        builder.finished_data().to_vec()
    }

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
            let bytes = field(&name, &value);
            prop_assert_eq!(read_field(&bytes), Ok((&name[..], &value[..])));
        }

        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (read_field(&bytes), read_fields(&bytes));
        }

        #[test]
        fn a_damaged_field_is_read_or_refused(
            name in "[a-z]{1,9}",
            value in "[ -~]{0,30}",
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            kept in any::<prop::sample::Index>(),
        ) {
            let mut bytes = field(name.as_bytes(), value.as_bytes());
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let kept = kept.index(bytes.len() + 1);
            for part in [&bytes[..], &bytes[..kept]] {
                if let Ok((name, value)) = read_field(part) {
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
            let mut builder = FlatBufferBuilder::new();
            // Twice, since a builder is used again.
            write_fields(&mut builder, &headers);
            write_fields(&mut builder, &headers);
            let fields = read_fields(builder.finished_data()).expect("what was written is read");
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

    #[test]
    fn a_field_without_its_value_is_refused() {
        let mut builder = FlatBufferBuilder::new();
        let name = builder.create_byte_string(b"x");
        let table = builder.start_table();
        builder.push_slot_always(KEY, name);
        let table = builder.end_table(table);
        builder.finish_minimal(table);
        assert!(read_field(builder.finished_data()).is_err_and(|why| why.contains("value")));
    }
}
