//! `Cors`, as written.

use crate::{
    kinds::{Count, Flag, OneOrMany, Text},
    read::section,
};

section! {
    /// Which pages of other sites may read responses.
    Cors "the payload of `Cors`", {
        /// Origins, such as `https://a.example`, `https://*.example.com` for all below, or `*` for all.
        required allow_origins("allow_origins"): OneOrMany<Text>;
        /// Methods that such a page may use, or `*`. `GET`, `HEAD` and `POST` by default.
        optional allow_methods("allow_methods"): OneOrMany<Text>;
        /// Request fields that such a page may set, or `*`. Only the harmless ones by default.
        optional allow_headers("allow_headers"): OneOrMany<Text>;
        /// Response fields that such a page may read, or `*`. Only the harmless ones by default.
        optional expose_headers("expose_headers"): OneOrMany<Text>;
        /// Whether cookies and the like go with such requests. False by default.
        optional allow_credentials("allow_credentials"): Flag;
        /// Seconds for which a browser keeps the answer to a preflight. Without it the browser decides.
        optional max_age_seconds("max_age_seconds"): Count<0, 86_400>;
        /// Whether requests from other origins are answered with 403. False by default: browsers refuse them.
        optional refuse_others("refuse_others"): Flag;
    }
}
