//! `Compress`, as written.

use crate::{
    kinds::{Count, OneOrMany, Text},
    read::{choice, section},
    source::Spanned,
};

section! {
    /// Which responses are compressed, and how.
    Compress "the payload of `Compress`", {
        /// The encodings that are offered; of those that a client likes equally the first is taken. `zstd`, `br`, `gzip`
        /// by default.
        optional encodings("encodings"): Vec<Spanned<Encoding>>;
        /// Media types, such as `application/json`, `text/*` or `application/*+json`. By default those of text.
        optional content_types("content_types"): OneOrMany<Text>;
        /// Bytes below which a body is left as it is, where its length is known.
        optional min_bytes("min_bytes"): Count<0, 1_073_741_824> = 1024;
        /// How hard each encoding tries.
        optional levels("levels"): CompressLevels;
    }
}

choice! {
    /// A content encoding.
    Encoding "encoding" {
        now "gzip" => Gzip,
        now "br" => Brotli,
        now "zstd" => Zstd,
    }
}

section! {
    /// How hard each encoding tries. Higher levels than these would keep a data-plane thread for too long.
    CompressLevels "`levels` of `Compress`", {
        /// From 1, the fastest.
        optional gzip("gzip"): Count<1, 6> = 5;
        /// From 0, the fastest.
        optional br("br"): Count<0, 6> = 4;
        /// From 1, the fastest.
        optional zstd("zstd"): Count<1, 9> = 3;
    }
}
