//! Header fields as a native plugin passes them: refused or read, never a panic, never beyond their bytes; and what is read
//! can be written, and reads as the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nylon_abi::fields::{decode_field, decode_fields, encode_field, encode_fields};
use nylon_fuzz::within;

fuzz_target!(|data: &[u8]| {
    if let Ok(field) = within(0, || decode_field(data)) {
        assert_eq!(decode_field(&encode_field(field.0, field.1)), Ok(field));
    }
    if let Ok(fields) = within(64 * data.len(), || decode_fields(data)) {
        // Strings may lie over each other, so that a short message could have a long list.
        let length: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if length < 1 << 20 {
            assert_eq!(decode_fields(&encode_fields(fields.iter().copied())), Ok(fields));
        }
    }
});
