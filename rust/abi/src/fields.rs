//! Headers as both sides write and read them: the FlatBuffers tables of docs/native-abi.md.
//!
//! ```text
//! table HeaderKeyValue { key: string (required); value: string (required); }
//! table NylonHttpHeaders { headers: [HeaderKeyValue]; }
//! ```
//!
//! Written by hand for two reasons: a header's value may be any bytes, which the readers that are made from a schema
//! refuse in a string, and one field is written for each header that a plugin sets, so it costs one buffer and no
//! builder. The tests compare both directions with the `flatbuffers` crate.

/// A message that is no such table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a FlatBuffers table of header fields")
    }
}

impl std::error::Error for Malformed {}

/// A name and a value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// The vtable of a `HeaderKeyValue`: its own size, the table's, where key and value are in it.
const FIELD_VTABLE: [u8; 8] = words([8, 12, 4, 8]);
/// The size of a `HeaderKeyValue`: the way to its vtable, then two offsets.
const FIELD_SIZE: usize = 12;

/// One field as a `HeaderKeyValue`.
pub fn encode_field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + string_size(name) + string_size(value));
    push_offset(&mut out, 12);
    out.extend_from_slice(&FIELD_VTABLE);
    push_offset(&mut out, FIELD_VTABLE.len());
    push_offset(&mut out, 8);
    push_offset(&mut out, 4 + string_size(name));
    push_string(&mut out, name);
    push_string(&mut out, value);
    out
}

/// Reads a `HeaderKeyValue`.
///
/// # Errors
/// [`Malformed`] for what leads out of the message, and where name or value is missing.
pub fn decode_field(message: &[u8]) -> Result<Field<'_>, Malformed> {
    field_at(message, follow(message, 0)?)
}

/// Fields as `NylonHttpHeaders`, in their order.
pub fn encode_fields<'a, I>(fields: I) -> Vec<u8>
where
    I: IntoIterator<Item = Field<'a>>,
    I::IntoIter: ExactSizeIterator + Clone,
{
    let mut out = Vec::new();
    encode_fields_into(&mut out, fields);
    out
}

/// The same in the place of what `out` has held, whose memory is used again.
pub fn encode_fields_into<'a, I>(out: &mut Vec<u8>, fields: I)
where
    I: IntoIterator<Item = Field<'a>>,
    I::IntoIter: ExactSizeIterator + Clone,
{
    // Root, vtable of the fields, vtable of the list and its padding, the list, the vector, the tables, the strings:
    // what is referred to stands behind who refers to it, since offsets are positive.
    const LIST_VTABLE: [u8; 8] = words([6, 8, 4, 0]);
    let fields = fields.into_iter();
    let count = fields.len();
    let strings: usize = fields.clone().map(|(name, value)| string_size(name) + string_size(value)).sum();
    out.clear();
    out.reserve(32 + count * (4 + FIELD_SIZE) + strings);
    push_offset(out, 20);
    out.extend_from_slice(&FIELD_VTABLE);
    out.extend_from_slice(&LIST_VTABLE);
    push_offset(out, 8);
    push_offset(out, 4);
    push_offset(out, count);
    let tables = out.len() + count * 4;
    for number in 0..count {
        let table = tables + number * FIELD_SIZE;
        let here = out.len();
        push_offset(out, table - here);
    }
    let mut string = tables + count * FIELD_SIZE;
    for (name, value) in fields.clone() {
        let table = out.len();
        push_offset(out, table - 4);
        push_offset(out, string - (table + 4));
        string += string_size(name);
        push_offset(out, string - (table + 8));
        string += string_size(value);
    }
    for (name, value) in fields {
        push_string(out, name);
        push_string(out, value);
    }
}

/// Reads `NylonHttpHeaders`. An empty message is an empty list.
///
/// # Errors
/// [`Malformed`] for what leads out of the message, and where a name or a value is missing.
pub fn decode_fields(message: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
    if message.is_empty() {
        return Ok(Vec::new());
    }
    let list = follow(message, 0)?;
    let Some(vector) = member(message, list, 4)? else { return Ok(Vec::new()) };
    let count = offset_at(message, vector)?;
    // Each field takes its place in the vector: a count beyond the message is none that memory is kept for.
    if count > message.len() / 4 {
        return Err(Malformed);
    }
    (0..count).map(|number| field_at(message, follow(message, vector + 4 + number * 4)?)).collect()
}

fn field_at(message: &[u8], table: usize) -> Result<Field<'_>, Malformed> {
    let name = member(message, table, 4)?.ok_or(Malformed)?;
    let value = member(message, table, 6)?.ok_or(Malformed)?;
    Ok((string_at(message, name)?, string_at(message, value)?))
}

/// Where a table's member is, by its place in the vtable; `None` where the table has none.
fn member(message: &[u8], table: usize, place: usize) -> Result<Option<usize>, Malformed> {
    let back = i32::from_le_bytes(bytes_at(message, table)?);
    let vtable = i64::try_from(table).map_err(|_| Malformed)? - i64::from(back);
    let vtable = usize::try_from(vtable).map_err(|_| Malformed)?;
    let size = usize::from(u16::from_le_bytes(bytes_at(message, vtable)?));
    if place + 2 > size {
        return Ok(None);
    }
    match u16::from_le_bytes(bytes_at(message, vtable + place)?) {
        0 => Ok(None),
        offset => follow(message, table + usize::from(offset)).map(Some),
    }
}

fn string_at(message: &[u8], at: usize) -> Result<&[u8], Malformed> {
    let length = offset_at(message, at)?;
    message.get(at + 4..).and_then(|rest| rest.get(..length)).ok_or(Malformed)
}

/// Where the offset at `at` leads to.
fn follow(message: &[u8], at: usize) -> Result<usize, Malformed> {
    at.checked_add(offset_at(message, at)?).filter(|target| *target < message.len()).ok_or(Malformed)
}

fn offset_at(message: &[u8], at: usize) -> Result<usize, Malformed> {
    usize::try_from(u32::from_le_bytes(bytes_at(message, at)?)).map_err(|_| Malformed)
}

fn bytes_at<const N: usize>(message: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    message.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Malformed)
}

/// A length, the bytes, a NUL, padding to four.
const fn string_size(text: &[u8]) -> usize {
    (4 + text.len() + 1).next_multiple_of(4)
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    let end = out.len() + string_size(text);
    push_offset(out, text.len());
    out.extend_from_slice(text);
    out.resize(end, 0);
}

/// Offsets and lengths are 32 bits wide. What is longer than that is cut in its length, never in its bytes: no header
/// comes near it, and a reader finds a message that is too long.
fn push_offset(out: &mut Vec<u8>, offset: usize) {
    out.extend_from_slice(&u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes());
}

const fn words(words: [u16; 4]) -> [u8; 8] {
    let mut out = [0; 8];
    let mut at = 0;
    while at < 4 {
        let word = words[at].to_le_bytes();
        out[at * 2] = word[0];
        out[at * 2 + 1] = word[1];
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatbuffers::{
        FlatBufferBuilder, Follow, ForwardsUOffset, InvalidFlatbuffer, Table, VOffsetT, Vector, Verifiable,
        Verifier,
    };

    const KEY: VOffsetT = 4;
    const VALUE: VOffsetT = 6;

    /// What `flatc` makes of the schema, with values as bytes.
    struct KeyValue<'a>(Table<'a>);

    impl<'a> Follow<'a> for KeyValue<'a> {
        type Inner = KeyValue<'a>;
        unsafe fn follow(buffer: &'a [u8], at: usize) -> Self {
            // SAFETY: the caller has verified the buffer.
            KeyValue(unsafe { Table::new(buffer, at) })
        }
    }

    impl Verifiable for KeyValue<'_> {
        fn run_verifier(verifier: &mut Verifier<'_, '_>, at: usize) -> Result<(), InvalidFlatbuffer> {
            verifier
                .visit_table(at)?
                .visit_field::<ForwardsUOffset<&str>>("key", KEY, true)?
                .visit_field::<ForwardsUOffset<Vector<'_, u8>>>("value", VALUE, true)?
                .finish();
            Ok(())
        }
    }

    impl<'a> KeyValue<'a> {
        fn field(&self) -> (Vec<u8>, Vec<u8>) {
            // SAFETY: the tables were verified, and both members are required.
            let get = |place| unsafe { self.0.get::<ForwardsUOffset<Vector<'a, u8>>>(place, None) };
            (get(KEY).expect("key").bytes().to_vec(), get(VALUE).expect("value").bytes().to_vec())
        }
    }

    struct Headers<'a>(Table<'a>);

    impl<'a> Follow<'a> for Headers<'a> {
        type Inner = Headers<'a>;
        unsafe fn follow(buffer: &'a [u8], at: usize) -> Self {
            // SAFETY: the caller has verified the buffer.
            Headers(unsafe { Table::new(buffer, at) })
        }
    }

    type List<'a> = ForwardsUOffset<Vector<'a, ForwardsUOffset<KeyValue<'a>>>>;

    impl Verifiable for Headers<'_> {
        fn run_verifier(verifier: &mut Verifier<'_, '_>, at: usize) -> Result<(), InvalidFlatbuffer> {
            verifier.visit_table(at)?.visit_field::<List<'_>>("headers", KEY, false)?.finish();
            Ok(())
        }
    }

    fn build<'a>(
        builder: &mut FlatBufferBuilder<'a>,
        name: &[u8],
        value: &[u8],
    ) -> flatbuffers::WIPOffset<flatbuffers::TableFinishedWIPOffset> {
        let key = builder.create_byte_string(name);
        let value = builder.create_byte_string(value);
        let table = builder.start_table();
        builder.push_slot_always(KEY, key);
        builder.push_slot_always(VALUE, value);
        builder.end_table(table)
    }

    const FIELDS: [Field<'static>; 5] = [
        (b"host", b"a.example"),
        (b"x-empty", b""),
        (b"a", b"b"),
        (b"x-raw", b"\xff\xfe\x80"),
        (b"abc", b"defg"),
    ];

    #[test]
    fn other_readers_read_what_is_written() {
        for (name, value) in FIELDS {
            let message = encode_field(name, value);
            let read = flatbuffers::root::<KeyValue<'_>>(&message).expect("valid");
            assert_eq!(read.field(), (name.to_vec(), value.to_vec()));
        }
        for count in 0..=FIELDS.len() {
            let message = encode_fields(FIELDS[..count].iter().copied());
            let read = flatbuffers::root::<Headers<'_>>(&message).expect("valid");
            // SAFETY: verified.
            let list = unsafe { read.0.get::<List<'_>>(KEY, None) }.expect("headers");
            let fields: Vec<_> = list.iter().map(|field| field.field()).collect();
            assert_eq!(
                fields,
                FIELDS[..count].iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn what_other_writers_write_is_read() {
        for (name, value) in FIELDS {
            let mut builder = FlatBufferBuilder::new();
            let field = build(&mut builder, name, value);
            builder.finish(field, None);
            assert_eq!(decode_field(builder.finished_data()), Ok((name, value)));
        }
        let mut builder = FlatBufferBuilder::new();
        let fields: Vec<_> = FIELDS.iter().map(|(name, value)| build(&mut builder, name, value)).collect();
        let vector = builder.create_vector(&fields);
        let table = builder.start_table();
        builder.push_slot_always(KEY, vector);
        let list = builder.end_table(table);
        builder.finish(list, None);
        assert_eq!(decode_fields(builder.finished_data()), Ok(FIELDS.to_vec()));
    }

    #[test]
    fn a_list_without_its_vector_is_empty() {
        let mut builder = FlatBufferBuilder::new();
        let table = builder.start_table();
        let list = builder.end_table(table);
        builder.finish(list, None);
        assert_eq!(decode_fields(builder.finished_data()), Ok(Vec::new()));
        assert_eq!(decode_fields(b""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_damaged_is_refused_or_read_but_never_left() {
        let messages = [encode_field(b"x-name", b"value"), encode_fields(FIELDS)];
        for message in &messages {
            for cut in 0..message.len() {
                let _ = (decode_field(&message[..cut]), decode_fields(&message[..cut]));
            }
            for at in 0..message.len() {
                for with in [0, 1, 4, 0x7f, 0x80, 0xff] {
                    let mut damaged = message.clone();
                    damaged[at] = with;
                    let _ = (decode_field(&damaged), decode_fields(&damaged));
                }
            }
        }
        assert_eq!(decode_field(b""), Err(Malformed));
        assert_eq!(decode_field(&messages[0][..30]), Err(Malformed));
        assert_eq!(decode_fields(&[0xff; 64]), Err(Malformed));
    }
}
