//! `IpFilter`: lets requests through by the client's address.
//!
//! `deny` wins over `allow`, and where there is an `allow` list, an address that is not on it is refused. So the order in
//! which the lists are written says nothing, and a longer list never opens what a shorter one has closed.

use super::ending::{pass, refuse};
use super::heads_only;
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use crate::respond::ErrorAnswer;
use http::StatusCode;
use ipnet::IpNet;
use nylon_config::plan::IpFilter;
use nylon_core::PhaseMask;
use std::net::IpAddr;

/// The entry of one middleware.
pub(super) struct IpEntry {
    phases: PhaseMask,
    allow: Option<Networks>,
    deny: Networks,
}

impl IpEntry {
    pub(super) fn new(rules: &IpFilter, phases: PhaseMask) -> IpEntry {
        let allow = rules.allow.as_deref().map(Networks::new);
        IpEntry { phases, allow, deny: Networks::new(&rules.deny) }
    }

    fn lets_through(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !self.deny.contains(address) && self.allow.as_ref().is_none_or(|allow| allow.contains(address))
    }
}

impl PluginEntry for IpEntry {
    fn traits(&self) -> EntryTraits {
        heads_only(self.phases)
    }

    fn keeps_sessions(&self) -> bool {
        false
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        if self.lets_through(call.exchange.facts.client_ip) {
            return Pending::Ready(pass(call.exchange));
        }
        let answer = ErrorAnswer { status: StatusCode::FORBIDDEN, text: "forbidden" };
        Pending::Ready(refuse(call.exchange, answer, []))
    }
}

/// Networks, in order and without overlap, so that a look-up is a binary search however many were written.
struct Networks(Vec<IpNet>);

impl Networks {
    fn new(written: &[IpNet]) -> Networks {
        let mut networks = IpNet::aggregate(&written.to_vec());
        networks.sort_by_key(IpNet::network);
        Networks(networks)
    }

    /// Whether the address is in one of them. `address` is in its plain form: no IPv4 address inside of an IPv6 one.
    fn contains(&self, address: IpAddr) -> bool {
        let after = self.0.partition_point(|network| network.network() <= address);
        after > 0 && self.0[after - 1].contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn networks(written: &[&str]) -> Vec<IpNet> {
        written.iter().map(|text| text.parse().expect("a network")).collect()
    }

    #[test]
    fn edges_of_networks_are_inside() {
        let all = Networks::new(&networks(&["10.0.0.0/30", "10.0.0.8/32", "2001:db8::/64", "0.0.0.0/8"]));
        for (address, inside) in [
            ("10.0.0.0", true),
            ("10.0.0.3", true),
            ("10.0.0.4", false),
            ("10.0.0.8", true),
            ("9.255.255.255", false),
            ("0.0.0.0", true),
            ("1.0.0.0", false),
            ("255.255.255.255", false),
            ("2001:db8::", true),
            ("2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::", false),
            ("::", false),
        ] {
            assert_eq!(all.contains(address.parse().expect("an address")), inside, "{address}");
        }
        assert!(!Networks::new(&[]).contains(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    fn network() -> impl Strategy<Value = IpNet> {
        // Few bits, so that networks overlap and touch.
        let v4 = (0u32..64, 20u8..=32).prop_map(|(bits, prefix)| {
            ipnet::Ipv4Net::new(Ipv4Addr::from(bits << 6), prefix).expect("a prefix").trunc().into()
        });
        let v6 = (0u128..64, 110u8..=128).prop_map(|(bits, prefix)| {
            ipnet::Ipv6Net::new(Ipv6Addr::from(bits << 12), prefix).expect("a prefix").trunc().into()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn a_search_finds_what_looking_at_each_finds(
            written in prop::collection::vec(network(), 0..12),
            bits in 0u32..8192,
            v6 in any::<bool>(),
        ) {
            let address = match v6 {
                false => IpAddr::V4(bits.into()),
                true => IpAddr::V6((u128::from(bits) << 6).into()),
            };
            let each = written.iter().any(|network| network.contains(&address));
            prop_assert_eq!(Networks::new(&written).contains(address), each);
        }
    }
}
