//! TLS towards clients: certificates by name, handshakes, and the files that certificates come from.
//!
//! All of it belongs to the server as a whole. A plan only says which certificates there are: settings, tickets and what
//! is in the store outlive a reload, so no client notices one.

/// Certificates by name.
mod store;
/// From a connection to a TLS connection.
mod handshake;
/// Certificates that are read from files.
mod files;
/// Changes of these files.
mod watch;
/// How certificates stand.
mod report;

pub use report::CertificateReport;
pub use store::CertStore;

pub(crate) use files::{Certificates, read};
pub(crate) use handshake::shake_hands;
pub(crate) use watch::Watch;

use crate::downstream::HTTP2;
use rustls::crypto::ring;
use rustls::server::ServerConfig;
use std::sync::Arc;
use store::Challenges;

/// What clients that speak HTTP may ask for (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// What an ACME server asks for that looks whether a name is ours (RFC 8737).
const CHALLENGE: &[u8] = b"acme-tls/1";

/// What all handshakes share.
pub(crate) struct Tls {
    /// The certificates.
    pub(crate) store: Arc<CertStore>,
    /// For clients.
    http: Arc<ServerConfig>,
    /// For ACME servers: it knows no certificate but those of challenges, and no protocol but theirs.
    challenge: Arc<ServerConfig>,
}

impl Tls {
    /// An empty store, and new keys for tickets.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new() -> Result<Tls, rustls::Error> {
        let store = Arc::new(CertStore::default());
        // TLS 1.2 and 1.3, with the suites that rustls prefers.
        let provider = Arc::new(ring::default_provider());
        let builder =
            || ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let mut http = builder()?.with_no_client_auth().with_cert_resolver(store.clone());
        http.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Whoever comes back may resume on any thread, and costs no memory meanwhile.
        http.ticketer = ring::Ticketer::new()?;
        let mut challenge =
            builder()?.with_no_client_auth().with_cert_resolver(Arc::new(Challenges(store.clone())));
        challenge.alpn_protocols = vec![CHALLENGE.to_vec()];
        challenge.send_tls13_tickets = 0;
        Ok(Tls { store, http: Arc::new(http), challenge: Arc::new(challenge) })
    }
}
