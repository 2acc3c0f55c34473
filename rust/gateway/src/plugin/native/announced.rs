//! What a library says about its entries, in JSON.

use nylon_core::{Phase, PhaseMask};
use serde_json::{Map, Value};

/// An entry that a library has announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedEntry {
    /// Its name.
    pub name: String,
    /// The phases that it handles.
    pub phases: PhaseMask,
    /// `request_filter` wants the request's body.
    pub request_body: bool,
    /// `response_body_filter` is called by chunk.
    pub stream: bool,
}

/// Reads the list. An error says what is wrong with it, and where.
pub(super) fn read(text: &[u8]) -> Result<Vec<AnnouncedEntry>, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON ({error})"))?;
    let Value::Array(items) = value else { return Err(format!("expected a list, found {}", shown(&value))) };
    let mut entries: Vec<AnnouncedEntry> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let entry = entry(item).map_err(|why| format!("entry {}: {why}", index + 1))?;
        if entries.iter().any(|known| known.name == entry.name) {
            return Err(format!("entry {}: the name `{}` comes twice", index + 1, entry.name));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(item: &Value) -> Result<AnnouncedEntry, String> {
    let Value::Object(fields) = item else {
        return Err(format!("expected an object, found {}", shown(item)));
    };
    let known = ["name", "phases", "body", "stream"];
    if let Some(stranger) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("unknown key `{stranger}` (known: `{}`)", known.join("`, `")));
    }
    let name = match fields.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        other => return Err(format!("expected a `name`, found {}", shown(other.unwrap_or(&Value::Null)))),
    };
    let Some(Value::Array(words)) = fields.get("phases") else {
        return Err(format!("`phases` of `{name}` is no list"));
    };
    let mut phases = PhaseMask::NONE;
    for word in words {
        let phase = word.as_str().and_then(Phase::from_name);
        phases = phases.with(phase.ok_or_else(|| format!("{} is no phase", shown(word)))?);
    }
    let (request_body, stream) = (flag(fields, "body")?, flag(fields, "stream")?);
    Ok(AnnouncedEntry { name, phases, request_body, stream })
}

fn flag(fields: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match fields.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(format!("`{key}` is neither true nor false, but {}", shown(other))),
    }
}

/// A value in a message, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
