//! The configuration's JSON Schema, for editors and for `nylon schema`.
//!
//! It comes from the same declarations as the readers (`raw.rs`), so it knows every key and no other.

use serde_json::{Map, Value, json};

use crate::{raw, read::Read};

/// The schema, JSON Schema draft 2020-12.
pub fn json_schema() -> Value {
    let mut defs = Map::new();
    let root = raw::Root::schema(&mut defs);
    // What a payload may hold depends on the plugin beside it.
    let payloads: Vec<Value> = raw::Builtin::schemas(&mut defs)
        .into_iter()
        .map(|(name, payload)| {
            json!({
                "if": { "properties": { "plugin": { "const": name } }, "required": ["plugin"] },
                "then": { "properties": { "payload": payload } },
            })
        })
        .collect();
    defs["Middleware"]["allOf"] = payloads.into();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Nylon gateway configuration",
        "$ref": root["$ref"],
        "$defs": defs,
    })
}
