//! The built-ins, and what each takes in its `payload`, as written.
//!
//! A payload is read once the name beside it is known, so its keys are checked like all others: misspelt ones are
//! found, and the schema has them. A built-in is one line here, and a file with its sections.

use serde_json::{Map, Value};

use crate::{read::Read, report::Report, tree::Node};

/// Bodies that travel smaller.
mod compress;
/// Pages of other sites.
mod cors;
/// Fields of a head that are set, added and removed.
mod headers;
/// Answers that lead elsewhere.
mod redirect;
/// The name of a request.
mod request_id;

pub(crate) use compress::*;
pub(crate) use cors::*;
pub(crate) use headers::*;
pub(crate) use redirect::*;
pub(crate) use request_id::*;
/// Users who log in.
mod basic_auth;
/// Requests by the client's address.
mod ip_filter;
/// Tokens.
mod jwt_auth;
/// How many requests are let through.
mod rate_limit;

pub(crate) use basic_auth::*;
pub(crate) use ip_filter::*;
pub(crate) use jwt_auth::*;
pub(crate) use rate_limit::*;

macro_rules! builtins {
    ($( $(#[doc = $about:literal])* $name:ident($settings:ty), )+) => {
        /// A built-in with its settings.
        #[derive(Debug, Clone)]
        #[allow(clippy::large_enum_variant, reason = "one at a time, and only while a configuration is read")]
        pub(crate) enum Builtin { $( $(#[doc = $about])* $name($settings), )+ }

        impl Builtin {
            /// The names under which `plugin` refers to them; no other plugin can have one of these.
            pub(crate) const NAMES: &'static [&'static str] = &[$( stringify!($name), )+];

            /// Reads what the built-in called `name` takes. `None`: there is none, or it takes something else, which is
            /// reported.
            pub(crate) fn read(name: &str, payload: &Node, report: &mut Report<'_>) -> Option<Builtin> {
                match name {
                    $( stringify!($name) => <$settings>::read(payload, report).map(Builtin::$name), )+
                    _ => None,
                }
            }

            /// The schema of each one's payload, by name.
            pub(crate) fn schemas(defs: &mut Map<String, Value>) -> Vec<(&'static str, Value)> {
                vec![$( (stringify!($name), <$settings>::schema(defs)), )+]
            }
        }
    };
}

builtins! {
    /// Changes what the service gets.
    RequestHeaderModifier(HeaderModifier),
    /// Changes what the client gets.
    ResponseHeaderModifier(HeaderModifier),
    /// Lets pages of other sites read responses.
    Cors(Cors),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Names the request to the service and the client.
    RequestId(RequestId),
    /// Compresses responses.
    Compress(Compress),
    /// Lets through so many requests in a time.
    RateLimit(RateLimit),
    /// Lets requests through by the client's address.
    IpFilter(IpFilter),
    /// Lets users through who log in.
    BasicAuth(BasicAuth),
    /// Lets requests through that come with a token.
    JwtAuth(JwtAuth),
}

impl Builtin {
    /// Whether `name` is one of them.
    pub(crate) fn is(name: &str) -> bool {
        Builtin::NAMES.contains(&name)
    }
}
