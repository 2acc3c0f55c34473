//! What carries requests to a service: TLS, HTTP/2, Unix sockets, and trailers both ways.

mod frames;
mod http2;
mod peer;
mod tls;
mod trailers;
mod unix;

use crate::Gateway;

/// A gateway whose every path leads to `endpoint`; `service` is further YAML of its service, `more` of the config.
pub(super) fn gateway_to(endpoint: &str, service: &str, more: &str) -> Gateway {
    Gateway::start(&config_to(endpoint, service, more))
}

pub(super) fn config_to(endpoint: &str, service: &str, more: &str) -> String {
    format!(
        "http: ['127.0.0.1:0']\nruntime: {{threads: 1}}\n{more}\n\
         routes: [{{route: {{type: host, value: '*'}}, name: all, \
         paths: [{{path: [/, '/{{*rest}}'], service: {{name: origin}}}}]}}]\n\
         services: [{{name: origin, service_type: http, endpoints: [{{{endpoint}}}]{service}}}]\n"
    )
}

/// An endpoint at a port of this machine.
pub(super) fn at(port: u16) -> String {
    format!("ip: 127.0.0.1, port: {port}")
}
