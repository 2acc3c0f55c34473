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
pub fn read_field(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
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
pub fn read_fields(bytes: &[u8]) -> Result<Vec<(&[u8], &[u8])>, String> {
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
