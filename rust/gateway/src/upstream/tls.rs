//! TLS to the endpoints of one service.
//!
//! The files are read when a plan is loaded, so that a reload takes rotated ones. Connections and sessions of the plan
//! before are not used again then: what they were checked against may count no more.

use crate::trust;
use nylon_config::plan::{ClientTls, EndpointAddress, Protocol};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TLS to one endpoint.
#[derive(Clone)]
pub(super) struct EndpointTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    protocol: Protocol,
}

/// What the endpoints of a service share: its authorities, its certificate, the sessions that can be resumed.
pub(super) struct ServiceTls {
    config: Arc<ClientConfig>,
    hostname: Option<String>,
    protocol: Protocol,
}

impl ServiceTls {
    /// Reads the files that `settings` name.
    ///
    /// # Errors
    /// Which file is broken, and how.
    pub(super) fn load(settings: &ClientTls, protocol: Protocol) -> Result<ServiceTls, String> {
        let roots = trust::trusted(settings.ca_file.as_deref(), "tls.ca_file")?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|why| format!("TLS cannot be set up: {why}"))?
            .with_root_certificates(roots);
        let mut config = trust::with_identity(builder, settings.identity.as_ref())?;
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        Ok(ServiceTls { config: Arc::new(config), hostname: settings.hostname.clone(), protocol })
    }

    /// TLS to the endpoint at `address`.
    ///
    /// # Errors
    /// When it has no name that a certificate could be for.
    pub(super) fn to(&self, address: &EndpointAddress) -> Result<EndpointTls, String> {
        let name = match (&self.hostname, address) {
            (Some(name), _) => name,
            (None, EndpointAddress::Tcp { host, .. }) => host,
            (None, EndpointAddress::Unix(_)) => return Err(format!("{address} needs `tls.sni`")),
        };
        // A certificate names no root of DNS, which a name may end in.
        let name = ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|why| format!("`{name}` cannot be in a certificate: {why}"))?;
        Ok(EndpointTls { config: self.config.clone(), name, protocol: self.protocol })
    }
}

impl EndpointTls {
    /// Shakes hands over `stream`.
    pub(super) async fn connect<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector.connect(self.name.clone(), stream).await.map_err(explained)?;
        if self.protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("it does not speak HTTP/2 (it did not choose `h2` by ALPN)"));
        }
        Ok(stream)
    }
}

impl PartialEq for EndpointTls {
    fn eq(&self, other: &EndpointTls) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

/// What to do about it, where the library's words don't say.
fn explained(error: io::Error) -> io::Error {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("it closed the connection instead of a TLS handshake")
            }
            _ => error,
        };
    };
    use rustls::{AlertDescription, CertificateError, Error};
    let help = match cause {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "who signed its certificate is not trusted here: set `tls.ca_file`"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name: check the endpoint, or set `tls.sni`",
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of the gateway: set `tls.cert` and `tls.key`"
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "it does not speak the service's `protocol`"
        }
        Error::InvalidMessage(_) => "it does not speak TLS",
        _ => return error,
    };
    io::Error::other(format!("{help} ({cause})"))
}
