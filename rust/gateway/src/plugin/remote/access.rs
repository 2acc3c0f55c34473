//! Who the gateway is to a broker, and how it knows the broker.
//!
//! Files are read anew for each connection, so that rotated credentials and certificates count without a restart;
//! that blocks only the connection's own thread. TLS is configured here and not by the client's options, because
//! those read files without saying which one is broken, and know no name but the address's.

use crate::causes::with_causes;
use crate::trust::{of_file, trusted, with_identity};
use async_nats::rustls::client::WebPkiServerVerifier;
use async_nats::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use async_nats::rustls::crypto::ring;
use async_nats::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use async_nats::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};
use async_nats::{AuthError, ConnectError, ConnectErrorKind, ConnectOptions};
use nylon_config::credentials;
use nylon_config::plan::{BrokerAuth, ClientTls};
use std::sync::Arc;

/// What a broker is told and asked for: see [`BrokerAuth`] and [`ClientTls`].
pub(in crate::plugin) struct Access {
    pub(in crate::plugin) auth: BrokerAuth,
    pub(in crate::plugin) tls: Option<ClientTls>,
}

impl Access {
    /// `options` with all that this access needs, as its files are now.
    ///
    /// # Errors
    /// Which file is broken, and how.
    pub(in crate::plugin) fn apply(&self, options: ConnectOptions) -> Result<ConnectOptions, String> {
        let options = match &self.auth {
            BrokerAuth::Anonymous => options,
            BrokerAuth::Password { user, password } => {
                options.user_and_password(user.clone(), password.reveal().to_owned())
            }
            BrokerAuth::Token(token) => options.token(token.reveal().to_owned()),
            BrokerAuth::Nkey(path) => {
                options.nkey(credentials::read_seed(path).map_err(of_file(path))?.reveal().to_owned())
            }
            BrokerAuth::Creds(path) => {
                let creds = credentials::read_creds(path).map_err(of_file(path))?;
                options.jwt(creds.jwt.reveal().to_owned(), move |nonce| {
                    let signature = credentials::sign(&creds.seed, &nonce);
                    async move { signature.map_err(AuthError::new) }
                })
            }
        };
        let Some(tls) = &self.tls else { return Ok(options) };
        Ok(options.require_tls(true).tls_client_config(client_config(tls)?))
    }

    /// Why there is no connection, with what to do about it where the broker's own words don't say.
    pub(in crate::plugin) fn explain(&self, error: &ConnectError) -> String {
        let said = with_causes(error);
        let help = match (error.kind(), &self.auth) {
            (ConnectErrorKind::AuthorizationViolation, BrokerAuth::Anonymous) => {
                "the broker wants to know who connects: set `auth`"
            }
            (ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication, _) => {
                "the broker refuses these credentials: check `auth`"
            }
            _ if said.contains("UnknownIssuer") => {
                "who signed the broker's certificate is not trusted here: set `tls.ca_file`"
            }
            _ if said.contains("certificate not valid for name") || said.contains("NotValidForName") => {
                "the broker's certificate is for another name: check the address, or set `tls.hostname`"
            }
            _ if said.contains("CertificateRequired") => {
                "the broker wants a certificate of the gateway: set `tls.cert` and `tls.key`"
            }
            _ if self.tls.is_some() && said.contains("InvalidContentType") => {
                "the broker speaks no TLS, and this connection insists on it"
            }
            _ => return said,
        };
        format!("{help} ({said})")
    }
}

/// TLS as a client speaks it, with the files as they are now.
///
/// # Errors
/// Which of them is broken, and how.
pub(in crate::plugin) fn client_config(tls: &ClientTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(trusted(tls.ca_file.as_deref(), "tls.ca_file")?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|why| format!("no authority is trusted, so no server can be: {why}"))?;
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.hostname {
        None => verifier,
        Some(name) => Arc::new(OtherName {
            name: ServerName::try_from(name.clone()).map_err(|why| format!("`{name}`: {why}"))?,
            verifier,
        }),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("TLS cannot be set up: {why}"))?
        .dangerous() // only in that the verifier is chosen here: it is rustls' own, see `OtherName`
        .with_custom_certificate_verifier(verifier);
    with_identity(builder, tls.identity.as_ref())
}

/// Verifies as rustls does, with another name than the address's.
#[derive(Debug)]
struct OtherName {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OtherName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(certificate, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
