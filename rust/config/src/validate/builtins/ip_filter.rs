//! The payload of `IpFilter`.

use super::super::networks::networks;
use crate::{kinds::OneOrMany, kinds::Text, plan::IpFilter, raw, report::Report};

pub(super) fn ip_filter(written: &raw::IpFilter, report: &mut Report<'_>) -> Option<IpFilter> {
    // A list of which an item could not be read would let through or shut out somebody else.
    let list = |list: &Option<OneOrMany<Text>>, report: &mut Report<'_>| match list {
        Some(OneOrMany(items)) => networks(items, report),
        None => Vec::new(),
    };
    let (allow, deny) = (list(&written.allow, report), list(&written.deny, report));
    if !written.has("allow") && !written.has("deny") {
        report.error_help(
            written.place,
            "an `IpFilter` without `allow` and `deny` filters nothing",
            "write `allow: [10.0.0.0/8]` or `deny: [192.0.2.7]`",
        );
        return None;
    }
    if let Some(OneOrMany(items)) = &written.allow
        && items.is_empty()
    {
        report.warn(written.place, "`allow` is empty, so that every request is refused");
    }
    Some(IpFilter { allow: written.has("allow").then_some(allow), deny })
}
