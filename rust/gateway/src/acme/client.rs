//! The HTTP client for a certificate authority.
//!
//! The library brings one, but without a deadline, without a limit, without more than one root, and it does not tell when
//! an authority wants to be left alone for a while (`Retry-After`).

use crate::causes::with_causes;
use crate::trust::trusted;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use nylon_config::plan::Authority;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// One request with its response.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any authority has to say at once.
const MAX_BODY: usize = 1 << 20;
/// What an authority's own errors come as (RFC 8555, 6.7).
const PROBLEM: &str = "application/problem+json";

/// A client for one try to get one certificate.
#[derive(Clone)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    pauses: Pauses,
}

/// When the authority wants to be asked again, as of its last error.
#[derive(Clone, Default)]
pub(super) struct Pauses(Arc<Mutex<Option<SystemTime>>>);

impl Pauses {
    pub(super) fn until(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, until: Option<SystemTime>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Client {
    /// A client that trusts whom the configuration says for this authority, as its file is now.
    ///
    /// # Errors
    /// Why nobody can be trusted.
    pub(super) fn new(authority: &Authority, provider: &Arc<CryptoProvider>) -> Result<Client, String> {
        let roots = trusted(authority.ca_file.as_deref(), "directory_ca_file")?;
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|why| format!("TLS cannot be set up: {why}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Client { http, pauses: Pauses::default() })
    }

    /// What it learns of pauses.
    pub(super) fn pauses(&self) -> Pauses {
        self.pauses.clone()
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, String> {
        let response = self.http.request(request).await.map_err(|error| with_causes(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| with_causes(&*error))?;
        let field = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if parts.status.is_client_error() || parts.status.is_server_error() {
            self.pauses.note(pause(field(header::RETRY_AFTER), SystemTime::now()));
            if !field(header::CONTENT_TYPE).starts_with(PROBLEM) {
                return Err(answered(parts.status));
            }
        } else if !parts.status.is_success() {
            return Err(answered(parts.status));
        }
        Ok(BytesResponse { parts, body: Box::new(body.to_bytes()) })
    }
}

fn answered(status: StatusCode) -> String {
    format!("it answered {status}, which is no answer of ACME")
}

/// The time that a `Retry-After` stands for (RFC 9110, 10.2.3).
fn pause(value: &str, now: SystemTime) -> Option<SystemTime> {
    let value = value.trim();
    match value.parse::<u32>() {
        Ok(seconds) => Some(now + Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(value).ok(),
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (client, url) = (self.clone(), request.uri().to_string());
        Box::pin(async move {
            let asked = tokio::time::timeout(PATIENCE, client.ask(request)).await;
            let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
            asked.map_err(|why| Error::Other(format!("{url}: {why}").into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use std::io::Write;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What a client makes of an authority that answers one request in this way, and what it learns of pauses.
    async fn answered_with(response: &'static str) -> (Result<u16, String>, Option<SystemTime>) {
        let provider = Arc::new(ring::default_provider());
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut ca_file = tempfile::NamedTempFile::new().expect("a file");
        ca_file.write_all(own.cert.pem().as_bytes()).expect("written");
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.into()], key)
            .expect("a fitting key");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://localhost:{}/dir", listener.local_addr().expect("an address").port());
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            let _ = stream.read(&mut [0; 4096]).await.expect("a request");
            stream.write_all(response.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("closed");
        });
        let ca_file = Some(ca_file.path().to_owned());
        let authority = Authority { directory_url: url.clone(), ca_file };
        let client = Client::new(&authority, &provider).expect("a client");
        let request = Request::builder().uri(url).body(BodyWrapper::default()).expect("a request");
        let answer = client.request(request).await;
        serving.await.expect("served");
        (
            answer.map(|answer| answer.parts.status.as_u16()).map_err(|error| error.to_string()),
            client.pauses().until(),
        )
    }

    #[tokio::test]
    async fn a_pause_that_an_authority_asks_for_is_noted() {
        let before = SystemTime::now();
        let (answer, until) = answered_with(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\nretry-after: 3600\r\n\
             content-length: 2\r\n\r\n{}",
        )
        .await;
        assert_eq!(answer, Ok(429));
        let pause = until.expect("a pause").duration_since(before).expect("later").as_secs();
        assert!((3600..3700).contains(&pause), "{pause}");
    }

    #[tokio::test]
    async fn what_is_no_answer_of_acme_is_called_so() {
        let (answer, until) = answered_with(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/html\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        let why = answer.expect_err("no answer");
        assert!(
            why.ends_with("/dir: it answered 503 Service Unavailable, which is no answer of ACME"),
            "{why}"
        );
        assert!(until.is_some());
        let (answer, until) =
            answered_with("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").await;
        assert!(answer.expect_err("no answer").contains("302"));
        assert_eq!(until, None);
    }

    #[test]
    fn both_forms_of_a_pause_are_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(pause(" 120 ", now), Some(now + Duration::from_secs(120)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(now));
        for nonsense in ["", "soon", "-1", "99999999999999999999"] {
            assert_eq!(pause(nonsense, now), None, "{nonsense}");
        }
    }
}
