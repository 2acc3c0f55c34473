//! Header fields as a native plugin passes them: refused or read, never a panic, and never beyond their bytes.

#![no_main]

#[allow(dead_code)] // Only what reads is fed.
#[path = "../../rust/gateway/src/plugin/native/headers.rs"]
mod headers;

use libfuzzer_sys::fuzz_target;
use nylon_fuzz::within;

fn is_part(part: &[u8], of: &[u8]) -> bool {
    part.is_empty() || of.as_ptr_range().contains(&part.as_ptr()) && part.len() <= of.len()
}

fuzz_target!(|data: &[u8]| {
    within(64 * 1024 + 64 * data.len(), || {
        if let Ok((name, value)) = headers::read_field(data) {
            assert!(is_part(name, data) && is_part(value, data));
        }
        if let Ok(fields) = headers::read_fields(data) {
            assert!(fields.iter().all(|(name, value)| is_part(name, data) && is_part(value, data)));
        }
    });
});
