//! Which requests a middleware is for, as written.

use crate::{
    kinds::{OneOrMany, Text},
    read::section,
};

section! {
    /// Which requests a middleware is for. All keys have to hold, and of each key's alternatives one.
    When "`when`", {
        /// The methods. `GET` is `HEAD` too.
        optional methods("methods"): OneOrMany<Text>;
        /// Header fields that are there, or have a value. Each of them has to hold.
        optional header("header"): OneOrMany<WhenHeader>;
        /// Patterns such as `/admin/{*rest}`, of which one matches the client's path.
        optional path("path"): OneOrMany<Text>;
        /// Media types of the request's body: `application/json`, `text/*`, `application/*+json`.
        optional content_type("content_type"): OneOrMany<Text>;
        /// What must not hold as a whole.
        optional not("not"): Box<When>;
    }
}

section! {
    /// A header field that is there, or has a value.
    WhenHeader "`header` of `when`", {
        /// The field.
        required name("name"): Text;
        /// What one of its lines is.
        optional value("value"): OneOrMany<Text>;
        /// What one of its lines begins with.
        optional prefix("prefix"): OneOrMany<Text>;
    }
}
