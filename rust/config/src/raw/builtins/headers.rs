//! `RequestHeaderModifier` and `ResponseHeaderModifier`, as written.

use serde_json::{Map, Value, json};

use crate::{
    kinds::{Named, Templated, Text},
    read::{Read, section},
    report::Report,
    tree::{Node, Tree},
};

section! {
    /// Fields of a head that are removed, set and added, in this order.
    HeaderModifier "the payload of a header modifier", {
        /// Fields that get one value instead of all that they had.
        optional set("set"): HeaderFields;
        /// Fields that get a value beside those that they have.
        optional add("add"): HeaderFields;
        /// Fields that are taken out.
        optional remove("remove"): Vec<Text>;
    }
}

section! {
    /// A field of a head and its value.
    HeaderField "a header field", {
        /// The field's name.
        required name("name"): Text;
        /// Its value, a template.
        required value("value"): Templated;
    }
}

/// Fields and their values: a list of `{name, value}`, or a mapping from name to value.
#[derive(Debug, Clone)]
pub(crate) struct HeaderFields(pub(crate) Vec<(Text, Templated)>);

impl Read for HeaderFields {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let pairs = match &node.value {
            Tree::Map(_) => Named::read(node, report)?.0,
            _ => {
                let fields = Vec::<HeaderField>::read(node, report)?;
                fields.into_iter().filter_map(|field| Some((field.name?, field.value?))).collect()
            }
        };
        Some(HeaderFields(pairs))
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({ "anyOf": [Vec::<HeaderField>::schema(defs), Named::<Templated>::schema(defs)] })
    }
}
