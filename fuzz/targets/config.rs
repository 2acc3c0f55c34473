//! A configuration file: loaded or refused with reasons that point into it, never a panic, and never more memory than a
//! file of that size can be worth.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nylon_fuzz::within;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    within((16 << 20) + 4096 * data.len(), || {
        let place = Path::new("/nonexistent");
        if let Err(refused) = nylon_config::parse_str("nylon.yaml", text, place, &|_| None) {
            assert!(!refused.errors.is_empty(), "refused without a reason");
            for diagnostic in &refused.errors {
                assert!(!diagnostic.reason.is_empty());
                let _ = diagnostic.to_string();
            }
        }
    });
});
