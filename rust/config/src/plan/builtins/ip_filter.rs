//! Whose requests are let through, by the client's address.

use ipnet::IpNet;

/// Networks, IPv4 ones in their own form. At least one list says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpFilter {
    /// Those that are let through; `None` is all.
    pub allow: Option<Vec<IpNet>>,
    /// Those that are refused, even where `allow` has them.
    pub deny: Vec<IpNet>,
}
