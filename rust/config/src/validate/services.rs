//! Services: upstream servers, and plugins that answer themselves.

use std::path::Path;

use super::{balancing, client_tls, located::find_directory, middleware::Attached};
use crate::{
    kinds::{Flag, FlagOr, Text},
    plan::{
        self, ClientTls, Endpoint, Protocol, Service, ServiceKind, StaticFiles, Upstream, UpstreamLimits,
    },
    raw,
    report::Report,
    source::{Place, Spanned},
};

/// What holds for a service that says nothing else.
#[derive(Clone, Copy)]
pub(super) struct Defaults<'a> {
    /// None: they are wrong themselves, which is reported.
    pub(super) limits: Option<&'a UpstreamLimits>,
    pub(super) ca_file: Option<&'a Path>,
}

pub(super) fn service(
    written: &raw::Service,
    defaults: Defaults<'_>,
    attached: &Attached<'_>,
    report: &mut Report<'_>,
) -> Option<Service> {
    let place = written.name.as_ref().map_or(written.place, |name| name.place);
    let kind = match written.service_type.as_ref()?.value {
        raw::ServiceType::Http => {
            only(written, "http", HTTP_KEYS, report);
            http(written, place, defaults, report)
        }
        raw::ServiceType::Plugin => {
            only(written, "plugin", &["plugin"], report);
            if !written.has("plugin") {
                report.error_help(
                    place,
                    "a plugin service needs a `plugin`",
                    "write `plugin: {name: ..., entry: ...}`",
                );
            }
            written
                .plugin
                .as_ref()
                .and_then(|plugin| attached.service(plugin, report))
                .map(|entry| ServiceKind::Plugin(Box::new(entry)))
        }
        raw::ServiceType::Static => {
            only(written, "static", &["static"], report);
            if !written.has("static") {
                report.error_help(
                    place,
                    "a static service needs `static`",
                    "write `static: {root: ./public}`",
                );
            }
            written
                .static_files
                .as_ref()
                .and_then(|files| static_files(files, report))
                .map(ServiceKind::Static)
        }
    };
    Some(Service {
        name: written.name.as_ref()?.value.clone(),
        kind: kind?,
        location: report.sources.location(place),
    })
}

fn static_files(written: &raw::StaticFiles, report: &mut Report<'_>) -> Option<StaticFiles> {
    let root = written.root.as_ref().and_then(|root| find_directory(&root.value, root.place, report));
    let index = written.index.as_ref().map_or("index.html", |index| index.value.as_str());
    if let Some(written) = &written.index
        && (index.contains(['/', '\0']) || matches!(index, "." | ".."))
    {
        report.error(
            written.place,
            format!("`index` is the name of a file in each directory: `{index}` is none"),
        );
    }
    let flag = |flag: &Option<Flag>, default| flag.as_ref().map_or(default, |flag| flag.value);
    let root = root?;
    if let Some(spa) = written.spa.as_ref().filter(|spa| spa.value)
        && !root.join(index).is_file()
    {
        report.warn(
            spa.place,
            format!("`spa` needs a file `{index}` in `{}`, which is not there", root.display()),
        );
    }
    Some(StaticFiles {
        root,
        index: index.to_owned(),
        spa: flag(&written.spa, false),
        precompressed: flag(&written.precompressed, true),
        hidden: flag(&written.hidden, false),
    })
}

/// The keys of an http service, beside those of [`balancing::KEYS`].
const HTTP_KEYS: &[&str] = &[
    "endpoints",
    "protocol",
    "tls",
    "connect_timeout_ms",
    "response_head_timeout_ms",
    "upstream_read_timeout_ms",
    "upstream_idle_timeout_ms",
];

/// Reports keys that mean nothing to a service of this type.
fn only(written: &raw::Service, service_type: &str, keys: &[&str], report: &mut Report<'_>) {
    let place = written.service_type.as_ref().map_or(written.place, |word| word.place);
    let http = |key| HTTP_KEYS.contains(key) || balancing::KEYS.contains(key);
    for key in HTTP_KEYS.iter().chain(balancing::KEYS).chain(&["plugin", "static"]) {
        let allowed = if service_type == "http" { http(key) } else { keys.contains(key) };
        if written.has(key) && !allowed {
            report.error(place, format!("a service of type `{service_type}` has no `{key}`"));
        }
    }
}

fn http(
    written: &raw::Service,
    place: Place,
    defaults: Defaults<'_>,
    report: &mut Report<'_>,
) -> Option<ServiceKind> {
    if !written.has("endpoints") || written.endpoints.as_ref().is_some_and(Vec::is_empty) {
        report.error_help(
            place,
            "an http service needs `endpoints`",
            "write `endpoints: [{ip: 127.0.0.1, port: 3000}]`",
        );
    }
    let endpoints = written.endpoints.as_ref()?.iter().map(|endpoint| self::endpoint(endpoint, report));
    let endpoints: Vec<_> = endpoints.collect();
    let mut limits = defaults.limits?.clone();
    for (own, limit) in [
        (written.connect_timeout_ms, &mut limits.connect_timeout),
        (written.response_head_timeout_ms, &mut limits.response_head_timeout),
        (written.upstream_read_timeout_ms, &mut limits.read_timeout),
        (written.upstream_idle_timeout_ms, &mut limits.idle_timeout),
    ] {
        if let Some(own) = own {
            *limit = super::millis(own);
        }
    }
    let endpoints: Vec<_> = endpoints.into_iter().collect::<Option<_>>()?;
    let tls = tls(written, &endpoints, defaults.ca_file, report)?;
    let protocol = match written.protocol.as_ref().map(|word| word.value) {
        Some(raw::Protocol::Http2) => Protocol::Http2,
        Some(raw::Protocol::Http1) | None => Protocol::Http1,
    };
    let balancing = balancing::balancing(written, &limits, report)?;
    Some(ServiceKind::Http(Box::new(Upstream { endpoints, limits, protocol, tls, balancing })))
}

/// How the endpoints speak TLS. The inner `None`: they do not.
fn tls(
    written: &raw::Service,
    endpoints: &[Endpoint],
    ca_file: Option<&Path>,
    report: &mut Report<'_>,
) -> Option<Option<ClientTls>> {
    let mut tls = match &written.tls {
        None if written.has("tls") => return None,
        Some(FlagOr::Flag(Spanned { value: false, .. })) | None => return Some(None),
        Some(FlagOr::Flag(_)) => ClientTls::default(),
        Some(FlagOr::Section(section)) => {
            let read = [
                ("sni", &section.sni),
                ("ca_file", &section.ca_file),
                ("cert", &section.cert),
                ("key", &section.key),
            ];
            if read.into_iter().any(|(key, text)| section.has(key) && text.is_none()) {
                return None;
            }
            let settings = client_tls::settings(
                section.ca_file.as_ref(),
                section.cert.as_ref(),
                section.key.as_ref(),
                section.sni.as_ref(),
                report,
            )?;
            if section.enabled.as_ref().is_some_and(|enabled| !enabled.value) {
                return Some(None);
            }
            settings
        }
    };
    let is_nameless = |endpoint: &&Endpoint| matches!(endpoint.address, plan::EndpointAddress::Unix(_));
    if tls.hostname.is_none()
        && let Some(nameless) = endpoints.iter().find(is_nameless)
    {
        let place = match &written.tls {
            Some(FlagOr::Flag(flag)) => flag.place,
            Some(FlagOr::Section(section)) => section.place,
            None => written.place,
        };
        report.error_help(
            place,
            format!("`{}` has no name that a certificate could be for", nameless.address),
            "write the name in its certificate: `tls: {sni: app.internal}`",
        );
        return None;
    }
    tls.ca_file = tls.ca_file.or_else(|| ca_file.map(Path::to_owned));
    Some(Some(tls))
}

fn endpoint(written: &raw::Endpoint, report: &mut Report<'_>) -> Option<Endpoint> {
    let address = address(written, report)?;
    let weight = written.weight.map_or(1, |weight| u32::try_from(weight.value).unwrap_or(u32::MAX));
    Some(Endpoint { address, weight })
}

/// A host and a port, or a Unix socket.
fn address(written: &raw::Endpoint, report: &mut Report<'_>) -> Option<plan::EndpointAddress> {
    let tcp = ["ip", "port"].map(|key| written.has(key));
    match (written.has("unix"), tcp) {
        (true, [false, false]) => {
            let path = super::socket_path(written.unix.as_ref()?, report)?;
            Some(plan::EndpointAddress::Unix(path))
        }
        (false, [true, true]) => {
            let host = host(written.ip.as_ref()?, report)?;
            Some(plan::EndpointAddress::Tcp { host, port: u16::try_from(written.port?.value).ok()? })
        }
        (true, _) => {
            report.error(written.place, "an endpoint has either `ip` and `port`, or `unix`, not both");
            None
        }
        (false, [ip, _]) => {
            let missing = if ip { "port" } else { "ip" };
            report.error_help(
                written.place,
                format!("an endpoint needs the key `{missing}`"),
                "write `{ip: 127.0.0.1, port: 3000}`, or `{unix: /run/app.sock}`",
            );
            None
        }
    }
}

/// An IP address (IPv6 without brackets) or a host name.
fn host(text: &Text, report: &mut Report<'_>) -> Option<String> {
    let bare = text.value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text.value);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Some(bare.to_owned());
    }
    if is_host_name(&text.value) {
        return Some(text.value.to_ascii_lowercase());
    }
    let reason = format!("`{}` is neither an IP address nor a host name", text.value);
    if text.value.contains("://") || text.value.contains(':') || text.value.contains('/') {
        let help = match text.value.starts_with("https://") {
            true => "write the host alone, the port in `port`, and `tls: true` in the service",
            false => "write the host alone, and the port in `port`",
        };
        report.error_help(text.place, reason, help);
    } else {
        report.error(text.place, reason);
    }
    None
}

/// Labels of letters, digits, `-` and `_`, joined by dots.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // What looks like an IPv4 address and is none (300.1.1.1) would be asked of DNS for nothing.
    let numeric = text.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && !numeric && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}
