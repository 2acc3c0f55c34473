//! How requests are carried to a service: what is read, from where, and what is wrong with it.

use broker_files::BrokerFiles;
use nylon_config::{
    ConfigErrors, Loaded,
    plan::{ClientTls, EndpointAddress, Protocol, ServiceKind, Upstream},
};

/// The files that `tls` names.
mod broker_files;

const ENDPOINT: &str = "endpoints: [{host: app.test, port: 443}]";

/// One service, with `rest` in its braces.
fn load(files: &BrokerFiles, rest: &str, runtime: &str) -> Result<Loaded, ConfigErrors> {
    let text = format!(
        "http: [127.0.0.1:0]\nruntime: {{{runtime}}}\nservices:\n  - {{name: s, service_type: http, {rest}}}\n"
    );
    nylon_config::parse_str("nylon.yaml", &text, files.path(), &|_| None)
}

fn upstream(files: &BrokerFiles, rest: &str, runtime: &str) -> Upstream {
    let loaded = load(files, rest, runtime).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    match loaded.plan.services.into_iter().next().expect("one service").kind {
        ServiceKind::Http(upstream) => *upstream,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tls_is_off_on_or_a_section_and_takes_its_trust_from_the_runtime() {
    let files = BrokerFiles::new();
    files.write("ca.pem", &std::fs::read_to_string(files.path().join("broker/ca.pem")).expect("a file"));
    let tls = |rest: &str| upstream(&files, &format!("{ENDPOINT}{rest}"), "ca_file: ca.pem").tls;
    let default = ClientTls { ca_file: Some(files.path().join("ca.pem")), ..ClientTls::default() };
    assert_eq!((tls(""), tls(", tls: false"), tls(", tls: {enabled: false}")), (None, None, None));
    assert_eq!(tls(", tls: true"), Some(default.clone()));
    assert_eq!(tls(", tls: {}"), Some(default));
    let broker = |name: &str| files.path().join("broker").join(name);
    assert_eq!(
        tls(", tls: {ca_file: broker/ca.pem, cert: broker/cert.pem, key: broker/key.pem, sni: b.test}"),
        Some(ClientTls {
            ca_file: Some(broker("ca.pem")),
            identity: Some((broker("cert.pem"), broker("key.pem"))),
            hostname: Some("b.test".to_owned()),
        })
    );
    assert_eq!(upstream(&files, &format!("{ENDPOINT}, tls: true"), "").tls, Some(ClientTls::default()));
}

#[test]
fn a_service_speaks_one_protocol_at_ports_and_sockets() {
    let files = BrokerFiles::new();
    let plain = upstream(&files, ENDPOINT, "");
    assert_eq!(plain.protocol, Protocol::Http1);
    let mixed =
        upstream(&files, "protocol: http2, endpoints: [{ip: '::1', port: 1}, {unix: run/a.sock}]", "");
    assert_eq!(mixed.protocol, Protocol::Http2);
    assert_eq!(mixed.endpoints[0].address.to_string(), "[::1]:1");
    assert_eq!(mixed.endpoints[1].address, EndpointAddress::Unix(files.path().join("run/a.sock")));
}

/// One mistake: about which text, and why.
#[test]
fn what_cannot_work_is_told_with_its_place() {
    let files = BrokerFiles::new();
    files.write("empty.pem", "");
    let other = rcgen::generate_simple_self_signed(["o.test".to_owned()]).expect("a certificate");
    files.write("other.pem", &other.signing_key.serialize_pem());
    let long = "a".repeat(120);
    for (rest, text, reason) in [
        (format!("{ENDPOINT}, tls: {{ca_file: no.pem}}"), "no.pem", "no such file"),
        (format!("{ENDPOINT}, tls: {{ca_file: empty.pem}}"), "empty.pem", "holds no certificate"),
        (format!("{ENDPOINT}, tls: {{cert: broker/cert.pem}}"), "broker/cert.pem", "belong together"),
        (
            format!("{ENDPOINT}, tls: {{cert: broker/cert.pem, key: other.pem}}"),
            "other.pem",
            "holds the key of another certificate",
        ),
        (format!("{ENDPOINT}, tls: {{sni: 'a b'}}"), "'a b'", "is no host's name"),
        (format!("{ENDPOINT}, tls: yes please"), "yes please", "expected true, false or a mapping"),
        (format!("{ENDPOINT}, tls: {{verify: false}}"), "verify", "unknown key `verify`"),
        (format!("{ENDPOINT}, protocol: http3"), "http3", "unknown protocol"),
        ("endpoints: [{unix: a.sock}], tls: true".to_owned(), "true", "no name that a certificate"),
        ("endpoints: [{unix: a.sock, ip: ::1}]".to_owned(), "{", "either `ip` and `port`, or `unix`"),
        (format!("endpoints: [{{unix: {long}}}]"), long.as_str(), "more than the 103"),
        ("endpoints: [{ip: 'https://h', port: 1}]".to_owned(), "'https://h'", "neither an IP address"),
    ] {
        let errors = load(&files, &rest, "").expect_err(&rest).errors;
        assert_eq!(errors.len(), 1, "{rest}: {errors:?}");
        assert!(errors[0].reason.contains(reason), "{rest}: {}", errors[0]);
        assert!(errors[0].text().starts_with(text) || text == "{", "{rest}: {}", errors[0]);
        assert_eq!(errors[0].location.line, 4);
    }
    let errors = load(&files, ENDPOINT, "ca_file: empty.pem").expect_err("an empty file").errors;
    assert_eq!((errors.len(), errors[0].location.line), (1, 2));
}
