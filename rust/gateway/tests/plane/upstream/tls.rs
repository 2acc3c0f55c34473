//! Services over TLS: who is believed, who is not, and who the gateway says it is.

use super::peer::Peer;
use super::{at, config_to, gateway_to};
use crate::{Gateway, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

/// An authority with a directory: `ca.pem`, and `cert.pem` and `key.pem` for `gateway.test`.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let authority = Authority { issuer, directory: tempfile::tempdir().expect("a directory") };
        let (cert, key) = authority.issue(&["gateway.test"], |_| ());
        authority.write("ca.pem", &authority.issuer.pem());
        authority.write("cert.pem", &cert.pem());
        authority.write("key.pem", &key.serialize_pem());
        authority
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the directory, as YAML.
    pub(super) fn file(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .expect("keep it to the owner");
    }

    fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// A server with a certificate for `names`.
    pub(super) fn server(&self, names: &[&str], alpn: &[&str]) -> ServerConfig {
        let (cert, key) = self.issue(names, |_| ());
        server(&[&version::TLS12, &version::TLS13], cert.der(), &key, alpn, None)
    }
}

fn server(
    versions: &[&'static SupportedProtocolVersion],
    cert: &CertificateDer<'static>,
    key: &KeyPair,
    alpn: &[&str],
    clients: Option<&Authority>,
) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = builder.with_single_cert(vec![cert.clone()], key).expect("a server");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

fn trusting(authority: &Authority, rest: &str) -> String {
    format!(", tls: {{ca_file: '{}'{rest}}}", authority.file("ca.pem"))
}

#[test]
fn a_service_is_reached_over_both_versions_of_tls_and_its_connections_are_used_again() {
    let authority = Authority::new();
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let (cert, key) = authority.issue(&["127.0.0.1"], |_| ());
        let peer = Peer::start(false, Some(server(versions, cert.der(), &key, &["http/1.1"], None)));
        let gateway = gateway_to(&at(peer.port), &trusting(&authority, ""), "");
        let mut client = gateway.connect();
        for _ in 0..3 {
            let response = client.get("/over/tls?x=1");
            assert_eq!(response.status, 200);
            assert!(
                response.text().starts_with("GET /over/tls?x=1 HTTP/1.1\nhost: test\n"),
                "{}",
                response.text()
            );
        }
        let sent = client
            .send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 300000\r\n\r\n")
            .send(vec![b'x'; 300_000]);
        assert!(sent.response().text().ends_with("300000 bytes"));
        assert_eq!(peer.connections(), 1);
    }
}

#[test]
fn only_a_certificate_of_a_known_authority_for_the_right_name_that_has_not_expired_is_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let status = |config: ServerConfig, rest: &str| {
        let peer = Peer::start(false, Some(config));
        let gateway = gateway_to(&at(peer.port), &trusting(&authority, rest), "");
        let response = gateway.connect().get("/");
        if response.status != 200 {
            assert_eq!(response.status, 502);
            assert!(
                response.text().starts_with(r#"{"error":"the upstream cannot be reached","status":502,"#)
            );
            assert!(
                !response.text().contains("certificate") && !response.text().contains(&peer.port.to_string())
            );
        }
        response.status
    };
    assert_eq!(status(authority.server(&["127.0.0.1"], &[]), ""), 200);
    assert_eq!(status(other.server(&["127.0.0.1"], &[]), ""), 502);
    assert_eq!(status(authority.server(&["localhost", "127.0.0.2"], &[]), ""), 502);
    assert_eq!(status(authority.server(&["app.internal"], &[]), ", sni: app.internal"), 200);
    assert_eq!(status(authority.server(&["127.0.0.1"], &[]), ", sni: app.internal"), 502);
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let (cert, key) = authority.issue(&["127.0.0.1"], expired);
    assert_eq!(status(server(&[&version::TLS13], cert.der(), &key, &[], None), ""), 502);
}

#[test]
fn a_service_without_an_authority_of_its_own_is_judged_by_the_gateways() {
    let (authority, other) = (Authority::new(), Authority::new());
    let peer = Peer::start(false, Some(authority.server(&["127.0.0.1"], &[])));
    for (known, status) in [(&authority, 200), (&other, 502)] {
        let config = config_to(&at(peer.port), ", tls: true", "");
        let runtime = format!("runtime: {{threads: 1, ca_file: '{}'}}", known.file("ca.pem"));
        let gateway = Gateway::start(&config.replace("runtime: {threads: 1}", &runtime));
        assert_eq!(gateway.connect().get("/").status, status);
    }
}

#[test]
fn a_service_that_asks_who_is_there_gets_the_gateways_certificate() {
    let authority = Authority::new();
    let (cert, key) = authority.issue(&["127.0.0.1"], |_| ());
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let peer = Peer::start(false, Some(server(versions, cert.der(), &key, &[], Some(&authority))));
        let identity =
            format!(", cert: '{}', key: '{}'", authority.file("cert.pem"), authority.file("key.pem"));
        let known = gateway_to(&at(peer.port), &trusting(&authority, &identity), "");
        assert_eq!(known.connect().get("/").status, 200);
        let unknown = gateway_to(&at(peer.port), &trusting(&authority, ""), "");
        assert_eq!(unknown.connect().get("/").status, 502);
    }
}

#[test]
fn a_further_connection_takes_up_the_session_of_an_earlier_one() {
    let authority = Authority::new();
    let peer = Peer::start(false, Some(authority.server(&["127.0.0.1"], &[])));
    let runtime = "runtime: {threads: 1, upstream_keepalive_pool_size: 0}";
    let config = config_to(&at(peer.port), &trusting(&authority, ""), "");
    let gateway = Gateway::start(&config.replace("runtime: {threads: 1}", runtime));
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(peer.connections(), 3);
    eventually("a resumed session", || peer.resumed() == 2);
}

#[test]
fn a_peer_that_speaks_no_tls_or_says_nothing_is_given_up_in_time() {
    let authority = Authority::new();
    let plain = crate::origin::Origin::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let gateway = gateway_to(&at(plain.port), &trusting(&authority, ""), "limits: {connect_timeout_ms: 400}");
    assert!(matches!(gateway.connect().get("/").status, 502 | 504));
    let silent = crate::origin::Origin::start(|connection| connection.await_end());
    let gateway =
        gateway_to(&at(silent.port), &trusting(&authority, ""), "limits: {connect_timeout_ms: 300}");
    assert_eq!(gateway.connect().get("/").status, 504);
    eventually("the connection's end", || silent.seen(|seen| seen.ended) == 1);
}

#[test]
fn a_reload_takes_the_files_as_they_are_then() {
    let (authority, other) = (Authority::new(), Authority::new());
    let peer = Peer::start(false, Some(other.server(&["127.0.0.1"], &[])));
    let config = config_to(&at(peer.port), &trusting(&authority, ""), "");
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.connect().get("/").status, 502);
    authority.write("ca.pem", &other.issuer.pem());
    gateway.server.switch(Gateway::plan(&config), Vec::new()).expect("a reload");
    assert_eq!(gateway.connect().get("/").status, 200);
    authority.write("ca.pem", &authority.issuer.pem());
    gateway.server.switch(Gateway::plan(&config), Vec::new()).expect("a reload");
    // A connection that was made in the trust of the plan before is not used again.
    assert_eq!(gateway.connect().get("/").status, 502);
}

#[test]
fn http2_is_agreed_on_in_the_handshake_or_refused() {
    let authority = Authority::new();
    let service = format!(", protocol: http2{}", trusting(&authority, ""));
    let peer = Peer::start(true, Some(authority.server(&["127.0.0.1"], &["h2", "http/1.1"])));
    let gateway = gateway_to(&at(peer.port), &service, "");
    let mut client = gateway.connect();
    for _ in 0..3 {
        let response = client.get("/x?y");
        assert_eq!(response.status, 200);
        assert!(response.text().starts_with("GET https://test/x?y HTTP/2.0\n"), "{}", response.text());
    }
    assert_eq!(peer.connections(), 1);
    // The second one does speak it, but has not said so.
    for (speaks, alpn) in [(false, &["http/1.1"][..]), (true, &[])] {
        let old = Peer::start(speaks, Some(authority.server(&["127.0.0.1"], alpn)));
        let gateway = gateway_to(&at(old.port), &service, "");
        assert_eq!(gateway.connect().get("/").status, 502);
    }
}
