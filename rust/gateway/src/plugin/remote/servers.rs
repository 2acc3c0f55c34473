//! The servers of one broker, and the order in which they are tried.
//!
//! A broker may be a cluster, whose nodes come and go: besides the servers of the configuration there are those that
//! the last server told of. The one that was lost just now is tried last, since it may be one that takes connections
//! and does nothing with them.

use async_nats::Client;
use std::fmt;

/// The servers of one connection, as URLs without credentials.
pub(super) struct Servers {
    configured: Vec<String>,
    /// What the last server told of: addresses without a scheme. Where TLS is required, it is for these as well.
    discovered: Vec<String>,
    /// The server of the last life.
    last: Option<String>,
}

impl Servers {
    pub(super) fn new(configured: Vec<String>) -> Servers {
        Servers { configured, discovered: Vec::new(), last: None }
    }

    /// All of them, in the order in which they are to be tried; `random` keeps many gateways apart.
    pub(super) fn in_order(&self, random: impl Fn() -> u64) -> Vec<String> {
        let mut order: Vec<(bool, bool, u64, &String)> = Vec::new();
        for (discovered, list) in [(false, &self.configured), (true, &self.discovered)] {
            for server in list {
                if order.iter().any(|known| same(known.3, server)) {
                    continue;
                }
                let lost = self.last.as_ref().is_some_and(|last| same(last, server));
                order.push((lost, discovered, random(), server));
            }
        }
        order.sort_unstable_by_key(|(lost, discovered, random, _)| (*lost, *discovered, *random));
        order.into_iter().map(|(.., server)| server.clone()).collect()
    }

    /// Takes what [`known_to`] has found.
    pub(super) fn connected(&mut self, (last, discovered): (Option<String>, Vec<String>)) {
        self.last = last;
        self.discovered = discovered;
    }
}

/// The server that `client` has connected to, and all that this one tells of.
pub(super) async fn known_to(client: &Client) -> (Option<String>, Vec<String>) {
    // Errs only when the client has ended, which its life will see.
    let pool = client.server_pool().await.unwrap_or_default();
    let last = pool.iter().find(|server| server.did_connect).map(ToString::to_string);
    (last, client.server_info().connect_urls)
}

impl fmt::Display for Servers {
    /// The configured ones, for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.configured.join(", "))
    }
}

/// Whether two URLs lead to the same server, whatever their schemes; 4222 is the port where none is written.
fn same(one: &str, other: &str) -> bool {
    fn address(url: &str) -> (&str, &str) {
        let address = url.split_once("://").map_or(url, |(_, address)| address);
        match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (address, "4222"),
        }
    }
    address(one) == address(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_that_was_lost_is_tried_last_and_each_one_once() {
        let urls = |servers: &[&str]| servers.iter().map(|&server| server.to_owned()).collect::<Vec<_>>();
        let mut servers = Servers::new(urls(&["tls://a", "tls://b:1", "tls://[::1]"]));
        servers.connected((Some("tls://a:4222".to_owned()), urls(&["a:4222", "c:1", "b:1"])));
        let order = servers.in_order(|| 0);
        assert_eq!(order[3], "tls://a");
        assert_eq!(order[2], "c:1");
        assert_eq!(order.len(), 4);
        assert_eq!(servers.to_string(), "tls://a, tls://b:1, tls://[::1]");
    }
}
