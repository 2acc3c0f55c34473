//! Payloads as MessagePack, as a handler gets them on every host.

use bytes::Bytes;
use nylon_core::Template;
use rmp::encode;

use crate::{
    plan::Payload,
    source::Place,
    tree::{Node, Tree},
};

const GROWS: &str = "a buffer in memory takes any write";
const SIZE: &str = "a configuration is far smaller than 4 GiB";

/// Reads the text at a place. `None`: it is no template, which was reported.
type Reader<'r> = &'r mut dyn FnMut(&str, Place) -> Option<Template>;

/// `node` as MessagePack; a number that fits an integer stays one. Each text that is a value is a template.
pub(crate) fn encode(node: &Node, template: Reader<'_>) -> Payload {
    let mut encoder = Encoder { buffer: encode::ByteBuf::new(), rendered: Vec::new(), template };
    encoder.put(node);
    Payload { rendered: encoder.rendered, last: encoder.buffer.into_vec().into() }
}

struct Encoder<'r> {
    buffer: encode::ByteBuf,
    rendered: Vec<(Bytes, Template)>,
    template: Reader<'r>,
}

impl Encoder<'_> {
    fn put(&mut self, node: &Node) {
        let to = &mut self.buffer;
        match &node.value {
            Tree::Invalid | Tree::Null => encode::write_nil(to).expect(GROWS),
            Tree::Bool(value) => encode::write_bool(to, *value).expect(GROWS),
            Tree::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => drop(encode::write_uint(to, value).expect(GROWS)),
                (None, Some(value)) => drop(encode::write_sint(to, value).expect(GROWS)),
                (None, None) => encode::write_f64(to, number.as_f64().unwrap_or(f64::NAN)).expect(GROWS),
            },
            Tree::Text(text) => {
                let Some(template) = (self.template)(text, node.place) else { return };
                match template.constant() {
                    Some(text) => encode::write_str(to, text).expect(GROWS),
                    None => self.rendered.push((std::mem::take(to).into_vec().into(), template)),
                }
            }
            Tree::List(items) => {
                encode::write_array_len(to, u32::try_from(items.len()).expect(SIZE)).expect(GROWS);
                items.iter().for_each(|item| self.put(item));
            }
            Tree::Map(entries) => {
                encode::write_map_len(to, u32::try_from(entries.len()).expect(SIZE)).expect(GROWS);
                for (key, item) in entries {
                    encode::write_str(&mut self.buffer, &key.value).expect(GROWS);
                    self.put(item);
                }
            }
        }
    }
}
