//! The payload of `RateLimit`, as written.

use serde_json::{Map, Value, json};

use super::super::Redis;
use crate::{
    kinds::{Count, Millis, Templated, Text},
    read::{Read, choice, expected, section},
    report::Report,
    source::{Place, Spanned},
    tree::{Node, Tree},
};

section! {
    /// How many requests are let through.
    RateLimit "the payload of `RateLimit`", {
        /// Requests in a time, as `100/s`, `1000/m`, `20/h` or `5/d`.
        required rate("rate"): Rate;
        /// Requests that may come at once after a pause. The number of `rate` by default.
        optional burst("burst"): Count<1, 1_000_000>;
        /// Whose requests are counted together. The client's address by default, of IPv6 its network of 64 bits.
        optional key("key"): Templated;
        /// Limits with the same name and the same settings share their buckets, in the whole configuration and over
        /// reloads. By default each place in the configuration has its own.
        optional name("name"): Text;
        /// Buckets that may be other than full at once in this process.
        optional max_keys("max_keys"): Count<1, 100_000_000> = 65_536;
        /// Which responses tell about the limit. `refused` by default.
        optional headers("headers"): Spanned<LimitHeaders>;
        /// Where the buckets are. `local` by default.
        optional store("store"): Spanned<LimitStore>;
        /// The Redis server, with `store: redis`.
        optional redis("redis"): Redis;
        /// The key-value bucket, with `store: nats`.
        optional nats("nats"): LimitNats;
        /// Milliseconds in which the store must answer.
        optional store_timeout_ms("store_timeout_ms"): Millis = 500;
        /// What happens when it does not. `fail` by default.
        optional on_store_error("on_store_error"): Spanned<OnStoreError>;
    }
}

choice! {
    /// Which responses tell about the limit.
    LimitHeaders "headers" {
        /// Only those of refused requests.
        now "refused" => Refused,
        /// All.
        now "always" => Always,
        /// None, but for `Retry-After`.
        now "never" => Never,
    }
}

choice! {
    /// Where the buckets are.
    LimitStore "store" {
        /// In this process.
        now "local" => Local,
        /// In Redis, for several gateways together.
        now "redis" => Redis,
        /// In a key-value bucket of NATS JetStream, for several gateways together.
        now "nats" => Nats,
    }
}

choice! {
    /// What happens when the store does not answer.
    OnStoreError "on_store_error" {
        /// The request is refused with 503.
        now "fail" => Fail,
        /// This process counts by itself.
        now "local" => Local,
        /// The request is let through.
        now "allow" => Allow,
    }
}

section! {
    /// A key-value bucket of NATS JetStream.
    LimitNats "`nats` of a `RateLimit`", {
        /// The messaging connection whose servers and credentials are used.
        required messaging("messaging"): Text;
        /// How many servers of a cluster keep each value.
        optional replicas("replicas"): Count<1, 5> = 1;
    }
}

/// So many in a time: `100/s`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) count: u64,
    /// In seconds.
    pub(crate) period: u64,
    pub(crate) place: Place,
}

impl Read for Rate {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        const HOW: &str =
            "write a number from 1 to 1000000 and a time, such as `100/s`, `1000/m`, `20/h` or `5/d`";
        let Tree::Text(text) = &node.value else {
            return expected("text such as `100/s`", &node.value, node.place, report);
        };
        let read = text.split_once('/').and_then(|(count, unit)| {
            let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
            let count = count.parse().ok().filter(|count| digits && (1..=1_000_000).contains(count))?;
            let (_, period) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
            Some(Rate { count, period, place: node.place })
        });
        if read.is_none() {
            report.error_help(node.place, format!("`{text}` is no rate"), HOW);
        }
        read
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({ "type": "string", "pattern": "^[0-9]+/[smhd]$" })
    }
}

const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
