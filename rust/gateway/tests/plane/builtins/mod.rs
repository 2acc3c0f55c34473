//! Plugins of the gateway's own: what they do to a request and its response.

mod compress;
mod cors;
mod headers;
mod manual;
mod redirect;
mod request_id;
mod basic_auth;
mod ip_filter;
mod jwt_auth;
mod rate_limit;

use crate::Gateway;
use crate::origin::Origin;

/// A gateway whose every path leads to `origin` through this middleware, the items of a YAML list.
pub(crate) fn through(origin: &Origin, middleware: &str) -> Gateway {
    Gateway::start(&format!(
        "http: ['127.0.0.1:0']
runtime: {{threads: 1}}
services: [{{name: origin, service_type: http, endpoints: [{{ip: 127.0.0.1, port: {}}}]}}]
routes:
  - route: {{type: host, value: '*'}}
    name: all
    paths: [{{path: [/, '/{{*rest}}', '/of/{{tenant}}'], service: {{name: origin}}}}]
    middleware:
{middleware}
",
        origin.port
    ))
}

/// The values of a field in a head as it came, in their order.
pub(crate) fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let value = |line: &'a str| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then_some(value.trim())
    };
    head.lines().take_while(|line| !line.is_empty()).skip(1).filter_map(value).collect()
}
