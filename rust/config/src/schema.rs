//! The configuration's JSON Schema, for editors and for `nylon schema`.
//!
//! It comes from the same declarations as the readers (`raw.rs`), so it knows every key and no other.

use serde_json::{Map, Value, json};

use crate::{raw, read::Read};

/// The schema, JSON Schema draft 2020-12.
pub fn json_schema() -> Value {
    let mut defs = Map::new();
    let root = raw::Root::schema(&mut defs);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Nylon gateway configuration",
        "$ref": root["$ref"],
        "$defs": defs,
    })
}
