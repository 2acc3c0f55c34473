//! `RequestId`, as written.

use crate::{
    kinds::{Flag, Text},
    read::section,
};

section! {
    /// A field that names the request.
    RequestId "the payload of `RequestId`", {
        /// The field's name.
        optional header("header"): Text = "x-request-id";
        /// Whether an id that the client sent is kept, if it is well formed. False by default.
        optional trust_incoming("trust_incoming"): Flag;
        /// Whether the response gets the field too. False by default.
        optional response("response"): Flag;
    }
}
