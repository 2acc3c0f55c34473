//! `Redirect`, as written.

use crate::{
    kinds::{Count, Flag, Templated},
    read::{choice, section},
    source::Spanned,
};

section! {
    /// Where a client is sent instead.
    Redirect "the payload of `Redirect`", {
        /// The status: 301, 302, 303, 307 or 308.
        optional status("status"): Count<301, 308> = 302;
        /// The whole target, a template: a path, or a URL whose host is written out.
        optional to("to"): Templated;
        /// Another scheme. Without `port`, its own port.
        optional scheme("scheme"): Spanned<RedirectScheme>;
        /// Another host, a template.
        optional host("host"): Templated;
        /// Another port.
        optional port("port"): Count<1, 65_535>;
        /// Another path, a template.
        optional path("path"): Templated;
        /// Whether the request's query is kept where the target has none. True by default.
        optional keep_query("keep_query"): Flag;
    }
}

choice! {
    /// The scheme of a redirect's target.
    RedirectScheme "scheme of a redirect" {
        now "http" => Http,
        now "https" => Https,
    }
}
