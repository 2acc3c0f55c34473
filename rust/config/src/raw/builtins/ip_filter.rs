//! The payload of `IpFilter`, as written.

use crate::{
    kinds::{OneOrMany, Text},
    read::section,
};

section! {
    /// Whose requests are let through, by the client's address.
    IpFilter "the payload of `IpFilter`", {
        /// Addresses and networks that are let through; all others are refused then.
        optional allow("allow"): OneOrMany<Text>;
        /// Addresses and networks that are refused, even where `allow` has them.
        optional deny("deny"): OneOrMany<Text>;
    }
}
