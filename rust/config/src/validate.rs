//! From the configuration as written to the configuration as run.
//!
//! Every name becomes an index and every default a value. Whatever is wrong is reported and stepped over, so that
//! one pass tells everything; a plan comes out only where nothing was wrong at all.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    credentials,
    kinds::{Count, Text},
    plan::{self, Plan},
    raw,
    read::Read,
    report::Report,
    source::{Place, Spanned},
    tree::{Node, Tree},
};

/// Names that are defined once and looked up by others.
mod directory;
/// Files that a configuration names.
mod located;
/// Who the gateway is to a broker, and how it knows the broker.
mod access;
/// How the gateway speaks TLS where it is the client.
mod client_tls;
/// Certificates obtained by ACME.
mod acme;
/// Certificates towards clients, and routes that want them.
mod certificates;
/// Brokers.
mod messaging;
/// Plugins and where their code is.
mod plugins;
/// How phases are called.
mod policy;
/// The workers of a plugin: groups, their shares, a mirror.
mod workers;
/// Plugins of the gateway's own.
mod builtins;
/// Names and values of header fields.
mod fields;
/// Which requests a middleware is for.
mod conditions;
/// Middleware and groups of it.
mod middleware;
/// Services and their endpoints.
mod services;
/// How requests are shared among endpoints.
mod balancing;
/// Routes: which requests, which paths.
mod routes;
/// Path patterns and rewrites.
mod paths;
/// Lists of addresses and networks.
mod networks;

use directory::Directory;

/// Builds the plan. `None`: something is wrong, and reported.
pub(crate) fn plan(root: &raw::Root, report: &mut Report<'_>) -> Option<Plan> {
    let listeners = listeners(root, report);
    let storage = root.acme.as_ref().map(|text| {
        let text = &text.0;
        absolute(report.sources.base_dir(text.place.file), &text.value)
    });
    let (http, https) = listeners.as_ref().map_or((&[][..], &[][..]), |(http, https)| (http, https));
    let ground = acme::Ground { storage, storage_is_written: root.has("acme"), http, https };
    let certificates = certificates::certificates(list(root.tls.as_ref()), &ground, report);
    let runtime = runtime(root, report);
    let limits = limits(root, report);
    let trusted_proxies = networks::networks(list(root.trusted_proxies.as_ref()), report);
    let header_selector = header_selector(root, report);
    let control = control(root, report);

    let dns = balancing::dns(root, report);

    let brokers = list(root.messaging.as_ref());
    let broker_names = Directory::of("messaging connection", brokers, |broker| broker.name.as_ref(), report);
    let messaging: Vec<_> = brokers.iter().map(|broker| messaging::broker(broker, report)).collect();

    let raw_plugins = list(root.plugins.as_ref());
    let plugin_names = Directory::of("plugin", raw_plugins, |plugin| plugin.name.as_ref(), report);
    let plugins: Vec<_> =
        raw_plugins.iter().map(|plugin| plugins::plugin(plugin, brokers, &broker_names, report)).collect();

    let policies: Vec<_> = raw_plugins.iter().map(|plugin| plugins::policies(plugin, brokers)).collect();
    let mut attached = middleware::Attached::new(
        &plugin_names,
        raw_plugins,
        &policies,
        builtins::Brokers { written: brokers, names: &broker_names },
    );
    attached.read_groups(root.middleware_groups.as_ref(), report);

    let raw_services = list(root.services.as_ref());
    let service_names = Directory::of("service", raw_services, |service| service.name.as_ref(), report);
    let services: Vec<_> = raw_services
        .iter()
        .map(|service| {
            let defaults = services::Defaults {
                limits: limits.as_ref().map(|limits| &limits.upstream),
                ca_file: runtime.as_ref().and_then(|runtime| runtime.ca_file.as_deref()),
            };
            services::service(service, defaults, &attached, report)
        })
        .collect();

    let routes = routes::routes(
        list(root.routes.as_ref()),
        &routes::Targets {
            services: &service_names,
            attached: &attached,
            header_selector: root.header_selector.is_some(),
            tls: [root.https.as_ref(), root.trusted_proxies.as_ref()]
                .iter()
                .any(|list| !self::list(*list).is_empty()),
        },
        report,
    );

    let (http, https) = listeners?;
    let plan = Plan {
        http,
        https,
        certificates: certificates?,
        runtime: runtime?,
        limits: limits?,
        trusted_proxies,
        header_selector,
        control,
        messaging: messaging.into_iter().collect::<Option<_>>()?,
        plugins: plugins.into_iter().collect::<Option<_>>()?,
        dns: dns?,
        services: services.into_iter().collect::<Option<_>>()?,
        routes: routes?,
    };
    (!report.has_errors()).then_some(plan)
}

fn list<T>(written: Option<&Vec<T>>) -> &[T] {
    written.map_or(&[], Vec::as_slice)
}

fn millis<const MIN: u64, const MAX: u64>(count: Count<MIN, MAX>) -> Duration {
    Duration::from_millis(count.value)
}

fn size<const MIN: u64, const MAX: u64>(count: Count<MIN, MAX>) -> usize {
    usize::try_from(count.value).unwrap_or(usize::MAX)
}

/// The addresses that speak plain HTTP and those that speak HTTPS.
fn listeners(
    root: &raw::Root,
    report: &mut Report<'_>,
) -> Option<(Vec<plan::Listener>, Vec<plan::Listener>)> {
    let unread = (root.has("http") && root.http.is_none()) || (root.has("https") && root.https.is_none());
    let (plain, secure) = (list(root.http.as_ref()), list(root.https.as_ref()));
    if plain.is_empty() && secure.is_empty() {
        if !unread {
            report.error_help(
                root.place,
                "no address to listen on",
                "write `http: [127.0.0.1:8080]`, or port 0 for a free one",
            );
        }
        return None;
    }
    if let Some(first) = secure.first()
        && !root.has("tls")
    {
        report.error_help(
            first.place,
            "an `https` address needs a certificate",
            "write `tls: [{type: custom, cert: cert.pem, key: key.pem, domains: [example.com]}]`",
        );
    }
    if secure.is_empty()
        && let Some(first) = root.tls.iter().flatten().next()
    {
        report.warn(first.place, "a certificate without an `https` address has no effect");
    }
    let mut seen = Vec::new();
    let http = addresses(plain, &mut seen, report);
    let https = addresses(secure, &mut seen, report);
    Some((http, https))
}

fn addresses(
    written: &[Text],
    seen: &mut Vec<(SocketAddr, Place)>,
    report: &mut Report<'_>,
) -> Vec<plan::Listener> {
    let mut listeners = Vec::new();
    for text in written {
        let Some(address) = socket_address(text, report) else { continue };
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == address && address.port() != 0) {
            report
                .error(text.place, format!("`{address}` is already listened on, see {}", report.at(*first)));
        }
        seen.push((address, text.place));
        listeners.push(plan::Listener { address, location: report.sources.location(text.place) });
    }
    listeners
}

fn socket_address(text: &Text, report: &mut Report<'_>) -> Option<SocketAddr> {
    if let Ok(address) = text.value.parse() {
        return Some(address);
    }
    if let Some(Ok(port)) = text.value.strip_prefix("localhost:").map(str::parse) {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let reason = format!("`{}` is no address: expected `IP:PORT`", text.value);
    let bare = text.value.trim_start_matches(['*', ':']);
    match (text.value.parse::<IpAddr>(), bare.parse::<u16>()) {
        (Ok(IpAddr::V6(ip)), _) => report.error_help(text.place, reason, format!("write `[{ip}]:8080`")),
        (Ok(ip), _) => report.error_help(text.place, reason, format!("write `{ip}:8080`")),
        (_, Ok(port)) => {
            report.error_help(text.place, reason, format!("write `0.0.0.0:{port}` or `127.0.0.1:{port}`"));
        }
        _ => report.error(text.place, reason),
    }
    None
}

/// A section that is not there: all its defaults.
fn absent<T: Read>(place: Place, report: &mut Report<'_>) -> Option<T> {
    T::read(&Node { value: Tree::Null, place }, report)
}

fn runtime(root: &raw::Root, report: &mut Report<'_>) -> Option<plan::Runtime> {
    let written = root.runtime.clone().or_else(|| absent::<raw::Runtime>(root.place, report))?;
    let ca_file = match &written.ca_file {
        Some(text) => Some(located::readable(text, credentials::read_certificates, report)?),
        None if written.has("ca_file") => return None,
        None => None,
    };
    Some(plan::Runtime {
        ca_file,
        threads: written.threads.map(size),
        grace_period: Duration::from_secs(written.grace_period_seconds?.value),
        graceful_shutdown_timeout: Duration::from_secs(written.graceful_shutdown_timeout_seconds?.value),
        reload_grace_period: Duration::from_secs(written.reload_grace_period_seconds?.value),
        upstream_keepalive_pool_size: size(written.upstream_keepalive_pool_size?),
    })
}

fn limits(root: &raw::Root, report: &mut Report<'_>) -> Option<plan::Limits> {
    let written = root.limits.clone().or_else(|| absent::<raw::Limits>(root.place, report))?;
    Some(plan::Limits {
        header_read_timeout: millis(written.header_read_timeout_ms?),
        tls_handshake_timeout: millis(written.tls_handshake_timeout_ms?),
        keepalive_timeout: millis(written.keepalive_timeout_ms?),
        body_read_timeout: millis(written.body_read_timeout_ms?),
        write_timeout: millis(written.write_timeout_ms?),
        max_header_bytes: size(written.max_header_bytes?),
        max_headers: size(written.max_headers?),
        max_body_bytes: size(written.max_body_bytes?),
        max_forwarded_body_bytes: Some(written.max_forwarded_body_bytes?.value).filter(|limit| *limit > 0),
        max_connections: size(written.max_connections?),
        // Its bound above fits.
        max_concurrent_streams: written.max_concurrent_streams?.value as u32,
        upstream: plan::UpstreamLimits {
            connect_timeout: millis(written.connect_timeout_ms?),
            response_head_timeout: millis(written.response_head_timeout_ms?),
            read_timeout: millis(written.upstream_read_timeout_ms?),
            idle_timeout: millis(written.upstream_idle_timeout_ms?),
        },
    })
}

fn header_selector(root: &raw::Root, report: &mut Report<'_>) -> Option<http::HeaderName> {
    fields::name(root.header_selector.as_ref()?, report)
}

/// Where something is that need not be there yet, from the file that names it.
pub(crate) fn absolute(base_dir: &Path, written: &str) -> PathBuf {
    let path = base_dir.join(written);
    std::path::absolute(&path).unwrap_or(path)
}

/// The longest path that a Unix socket can have everywhere (the BSDs' limit; Linux takes four more).
const SOCKET_PATH: usize = 103;

fn control(root: &raw::Root, report: &mut Report<'_>) -> Option<PathBuf> {
    socket_path(root.control.as_ref()?, report)
}

/// The path of a Unix socket, which may be too long for one.
fn socket_path(written: &Text, report: &mut Report<'_>) -> Option<PathBuf> {
    let Spanned { value, place } = written;
    let path = absolute(report.sources.base_dir(place.file), value);
    let length = path.as_os_str().len();
    if length > SOCKET_PATH {
        report.error_help(
            *place,
            format!(
                "`{}` has {length} bytes, more than the {SOCKET_PATH} that the path of a socket may have",
                path.display()
            ),
            "choose a shorter path, such as one below /run",
        );
    }
    Some(path)
}
