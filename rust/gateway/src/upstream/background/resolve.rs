//! Names of endpoints become addresses, again and again.
//!
//! The resolver is hickory's, made anew for each question: so what the system says of itself (`/etc/resolv.conf`,
//! `/etc/hosts`) may change, and what an answer says of its own age is kept here and nowhere else. A question that
//! fails changes nothing: the last good answer stays.

use super::super::balance::HttpService;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use nylon_config::plan::Dns;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// The pause after a question that failed; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps the endpoints of one name up to date. `tried` is dropped after the first try.
pub(super) async fn follow(service: Arc<HttpService>, number: usize, dns: Arc<Dns>, tried: Sender<()>) {
    let origin = &service.origins()[number];
    let Some(name) = origin.name() else { return };
    let mut tried = Some(tried);
    let mut failures = 0_u32;
    loop {
        let pause = match lookup(name, &dns).await {
            Ok((found, ttl)) => {
                let count = found.len();
                if service.resolved(number, found) {
                    tracing::info!(service = service.name(), "`{name}` has {count} addresses");
                }
                if failures > 0 {
                    tracing::warn!(service = service.name(), "`{name}` resolves again");
                }
                failures = 0;
                ttl.clamp(dns.min_ttl, dns.max_ttl)
            }
            Err(why) => {
                if failures == 0 {
                    let meanwhile = if origin.is_resolved() {
                        "its last addresses are kept"
                    } else {
                        "no request is sent there until it does"
                    };
                    tracing::warn!(service = service.name(), "`{name}` does not resolve, {meanwhile}: {why}");
                }
                failures = failures.saturating_add(1);
                FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(8)).min(LONGEST_PAUSE).min(dns.max_ttl)
            }
        };
        origin.resolved_next(pause);
        drop(tried.take());
        tokio::time::sleep(pause).await;
    }
}

/// The addresses of a name, and how long they are good.
async fn lookup(name: &str, dns: &Dns) -> Result<(Vec<IpAddr>, Duration), String> {
    let mut builder = resolver(dns);
    let options = builder.options_mut();
    options.timeout = dns.timeout;
    options.cache_size = 0;
    // One family: the two addresses of a host are not two endpoints.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let answer = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
    let found: Vec<IpAddr> = answer.iter().collect();
    if found.is_empty() {
        return Err("the answer has no addresses".to_owned());
    }
    Ok((found, answer.valid_until().saturating_duration_since(Instant::now())))
}

/// A resolver that asks the configured servers, or those of the system.
fn resolver(dns: &Dns) -> ResolverBuilder<TokioRuntimeProvider> {
    let asking = |servers| {
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    if dns.servers.is_empty() {
        return TokioResolver::builder_tokio().unwrap_or_else(|error| {
            // What stands in `/etc/hosts` resolves all the same.
            tracing::debug!("the system names no name servers: {error}");
            asking(Vec::new())
        });
    }
    let servers = dns.servers.iter().map(|server| {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        config.connections.iter_mut().for_each(|connection| connection.port = server.port());
        config
    });
    asking(servers.collect())
}
