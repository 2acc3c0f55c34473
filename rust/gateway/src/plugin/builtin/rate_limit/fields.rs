//! What a response tells of a limit: `Retry-After` (RFC 9110, 10.2.3) and the fields of the IETF's draft
//! `draft-ietf-httpapi-ratelimit-headers-09`.
//!
//! `RateLimit-Policy` names the limit, its quota `q` and the seconds `w` for which that is; `RateLimit` says for the same
//! name how many requests are left (`r`) and in how many seconds (`t`) all of them are there again.

use super::gcra::Decision;
use http::{HeaderName, HeaderValue, header};
use nylon_config::plan::RateLimit;
use std::time::Duration;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The fields of one limit.
pub(super) struct Fields {
    name: String,
    policy: HeaderValue,
}

impl Fields {
    /// # Errors
    /// When the name cannot stand in a field.
    pub(super) fn new(rules: &RateLimit) -> Result<Fields, String> {
        let name = format!("\"{}\"", rules.shown_name);
        let policy = format!("{name};q={};w={}", rules.count, rules.period.as_secs());
        let policy =
            HeaderValue::from_str(&policy).map_err(|_| format!("{name} cannot stand in a header"))?;
        Ok(Fields { name, policy })
    }

    /// The two fields for what became of a request.
    pub(super) fn of(&self, decision: &Decision) -> [(HeaderName, HeaderValue); 2] {
        let limit = format!("{};r={};t={}", self.name, decision.remaining, seconds(decision.full_after));
        let limit = HeaderValue::from_str(&limit)
            .expect("the name stands in `policy` already, and the rest is digits");
        [(POLICY, self.policy.clone()), (LIMIT, limit)]
    }
}

/// When to come back. Never 0: at that moment it would be too early.
pub(super) fn retry_after(decision: &Decision) -> (HeaderName, HeaderValue) {
    (header::RETRY_AFTER, HeaderValue::from(seconds(decision.retry_after).max(1)))
}

/// Whole seconds, rounded up: whoever waits for less comes too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
