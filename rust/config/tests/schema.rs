//! The JSON Schema, the parser and the manual know the same keys.

use std::{fs, path::Path};

use broker_files::BrokerFiles;
use serde_json::{Map, Value, json};

/// The files that `auth` and `tls` name.
mod broker_files;

/// How a value gets into the list or mapping that a key takes.
type Shape = fn(Value) -> Value;
type Wrap = Box<dyn Fn(Value) -> Value>;
type Visit<'v> = dyn FnMut(&str, &Map<String, Value>, &dyn Fn(Value) -> Value) + 'v;

/// The reasons for which the parser refuses `config`.
fn reasons(config: &Value) -> Vec<String> {
    match nylon_config::parse_str("nylon.yaml", &config.to_string(), Path::new(""), &|_| None) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.errors.into_iter().map(|error| error.reason).collect(),
    }
}

/// The name of the section that `schema` leads to, and how a value gets there.
fn inner(schema: &Value) -> Option<(&str, Shape)> {
    fn section(schema: &Value) -> Option<&str> {
        schema["$ref"].as_str()?.strip_prefix("#/$defs/")
    }
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    if let Some(name) = section(schema).or_else(|| alternatives.filter_map(section).next()) {
        return Some((name, |value| value));
    }
    if let Some(name) = section(&schema["items"]) {
        return Some((name, |value| json!([value])));
    }
    if let Some(name) = section(&schema["additionalProperties"]["items"]) {
        return Some((name, |value| json!({ "chosen": [value] })));
    }
    section(&schema["additionalProperties"]).map(|name| (name, (|value| json!({ "chosen": value })) as Shape))
}

/// Calls `visit` for each section of a built-in's payload.
fn walk_payloads(schema: &Value, visit: &mut Visit<'_>) {
    for rule in schema["$defs"]["Middleware"]["allOf"].as_array().expect("what each payload may hold") {
        let plugin = &rule["if"]["properties"]["plugin"]["const"];
        let (section, _) = inner(&rule["then"]["properties"]["payload"]).expect("a section");
        let wrap =
            |value: Value| json!({ "middleware_groups": { "g": [{ "plugin": plugin, "payload": value }] } });
        walk(schema, section, &wrap, 0, visit);
    }
}

/// Calls `visit` for each section that can be reached: its name, its schema, and how a value gets into its place.
fn walk(schema: &Value, name: &str, wrap: &dyn Fn(Value) -> Value, depth: usize, visit: &mut Visit<'_>) {
    let section = schema["$defs"][name]["properties"].as_object().expect("a section has properties");
    visit(name, section, wrap);
    assert!(depth < 20, "sections hold each other without end");
    for (key, property) in section {
        // A section that may hold itself is not walked into again.
        if let Some((inner, shape)) = inner(property).filter(|(inner, _)| *inner != name) {
            let place: Wrap = {
                let key = key.clone();
                Box::new(move |value| json!({ key.clone(): shape(value) }))
            };
            walk(schema, inner, &|value| wrap(place(value)), depth + 1, visit);
        }
    }
}

/// The same for all of the configuration, payloads included.
fn walk_all(schema: &Value, visit: &mut Visit<'_>) {
    walk(schema, "Root", &|value| value, 0, visit);
    walk_payloads(schema, visit);
}

#[test]
fn every_key_of_the_schema_is_read_and_no_other() {
    let schema = nylon_config::json_schema();
    let mut sections = 0;
    walk_all(&schema, &mut |name, section, wrap| {
        sections += 1;
        for key in section.keys() {
            let found = reasons(&wrap(json!({ key: null })));
            assert!(!found.iter().any(|reason| reason.contains("unknown key")), "{name}.{key}: {found:?}");
        }
        let found = reasons(&wrap(json!({ "zzzzzz": null })));
        assert!(found.iter().any(|reason| reason.starts_with("unknown key `zzzzzz`")), "{name}: {found:?}");
    });
    assert!(sections > 30, "{sections}");
}

#[test]
fn what_the_schema_requires_is_required() {
    let schema = nylon_config::json_schema();
    walk_all(&schema, &mut |name, _, wrap| {
        let found = reasons(&wrap(json!({})));
        for key in
            schema["$defs"][name]["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
        {
            assert!(
                found.iter().any(|reason| reason.ends_with(&format!("needs the key `{key}`"))),
                "{name}.{key}: {found:?}"
            );
        }
    });
}

#[test]
fn every_word_of_the_schema_is_known_and_no_other() {
    let schema = nylon_config::json_schema();
    let mut words = 0;
    walk_all(&schema, &mut |name, section, wrap| {
        for (key, property) in section {
            let Some(choices) = property["enum"].as_array() else { continue };
            for choice in choices {
                words += 1;
                let found = reasons(&wrap(json!({ key: choice })));
                assert!(
                    !found.iter().any(|reason| reason.starts_with("unknown ")
                        && reason.ends_with(&format!("`{}`", choice.as_str().unwrap_or_default()))),
                    "{name}.{key}: {found:?}"
                );
            }
            let found = reasons(&wrap(json!({ key: "zzzzzz" })));
            assert!(
                found.iter().any(|reason| reason.starts_with("unknown ") && reason.ends_with("`zzzzzz`")),
                "{name}.{key}: {found:?}"
            );
        }
    });
    assert!(words > 20, "{words}");
}

#[test]
fn defaults_of_the_schema_are_values_that_may_be_written() {
    let schema = nylon_config::json_schema();
    let mut defaults = 0;
    walk_all(&schema, &mut |name, section, wrap| {
        for (key, property) in section {
            let default = &property["default"];
            if default.is_null() {
                continue;
            }
            defaults += 1;
            let without = reasons(&wrap(json!({})));
            assert_eq!(reasons(&wrap(json!({ key: default }))), without, "{name}.{key}");
        }
    });
    assert!(defaults > 15, "{defaults}");
}

const MANUAL: &str = "../../docs/config.md";

/// Asserts that the manual has a row for each key of a section, its words and its defaults.
fn assert_explained(manual: &str, name: &str, section: &Map<String, Value>) {
    for (key, property) in section {
        let row = manual.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{key}`")));
        assert!(row.is_some(), "{name}.{key} is not in the manual");
        let words = [&property["enum"], &property["items"]["enum"]];
        for word in words.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
            assert!(manual.contains(&format!("`{word}`")), "{name}.{key}: `{word}` is not in the manual");
        }
        let default = match &property["default"] {
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        let rows = manual.lines().filter(|line| line.starts_with(&format!("| `{key}`")));
        assert!(
            rows.into_iter().any(|row| row.contains(&format!("| {default} |"))),
            "{name}.{key}: the default {default} is not in the manual"
        );
    }
}

#[test]
fn the_manual_names_every_key_every_word_and_every_default() {
    let manual = fs::read_to_string(MANUAL).expect("the manual");
    let schema = nylon_config::json_schema();
    walk(&schema, "Root", &|value| value, 0, &mut |name, section, _| {
        assert_explained(&manual, name, section)
    });
    let built_ins = fs::read_to_string("../../docs/built-ins.md").expect("the manual of built-ins");
    walk_payloads(&schema, &mut |name, section, _| assert_explained(&built_ins, name, section));
    for rule in schema["$defs"]["Middleware"]["allOf"].as_array().into_iter().flatten() {
        let name = rule["if"]["properties"]["plugin"]["const"].as_str().expect("a name");
        assert!(built_ins.contains(&format!("\n## {name}\n")), "{name} has no section in the manual");
    }
}

#[test]
fn the_examples_of_the_manual_are_valid() {
    // Pages about one topic, beside the one about all keys.
    let pages = ["config.md", "load-balancing.md", "upstreams.md", "routing.md", "templates.md"];
    let dir = BrokerFiles::new();
    for name in ["auth.py", "plugins.py", "quick.so", "value"] {
        dir.write(name, "");
    }
    let broker = [
        ("user.nk", "gateway.nk"),
        ("user.creds", "gateway.creds"),
        ("ca.pem", "ca.pem"),
        ("cert.pem", "gateway.pem"),
        ("key.pem", "gateway-key.pem"),
    ];
    for (from, to) in broker {
        fs::rename(dir.path().join("broker").join(from), dir.path().join(to)).expect("a file");
    }
    let known = ["NATS_SERVERS", "NATS_GROUP", "NATS_TOKEN", "NATS_PASSWORD", "LEGACY_PLUGIN"];
    let env = |name: &str| known.contains(&name).then(|| "value".to_owned());
    for page in pages {
        let text = fs::read_to_string(Path::new("../../docs").join(page)).expect("a page of the manual");
        let mut tried = 0;
        for block in text.split("```yaml\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            let whole =
                if text.contains("http:") { text.to_owned() } else { format!("http: [127.0.0.1:0]\n{text}") };
            if let Err(errors) = nylon_config::parse_str(page, &whole, dir.path(), &env) {
                panic!("{errors}\nin\n{whole}");
            }
            tried += 1;
        }
        assert!(tried >= 1, "{page} has no example");
    }
}
