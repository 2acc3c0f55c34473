//! Lists of addresses and networks.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::{kinds::Text, report::Report};

/// The networks that `written` names. What is none is reported and left out.
///
/// A network inside of `::ffff:0:0/96` comes out as the IPv4 one that it means, since clients' addresses do so too.
pub(super) fn networks(written: &[Text], report: &mut Report<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in written {
        let network = text.value.parse::<IpNet>().or_else(|_| text.value.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => networks.push(plain(network.trunc())),
            Err(_) => report.error_help(
                text.place,
                format!("`{}` is no address or network", text.value),
                "write an address such as `10.0.0.7` or a network such as `10.0.0.0/8`",
            ),
        }
    }
    networks
}

fn plain(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = v4.and_then(|(address, prefix): (Ipv4Addr, u8)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_network_is_the_one_that_it_means() {
        for (written, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/80", "::/80"),
            ("::/0", "::/0"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let network: IpNet = written.parse().expect("a network");
            assert_eq!(plain(network), meant.parse().expect("a network"), "{written}");
        }
    }
}
