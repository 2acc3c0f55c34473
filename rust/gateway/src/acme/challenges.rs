//! What the gateway shows a certificate authority to prove that it controls a domain.
//!
//! For HTTP-01 it is a text under a path that nobody can guess, answered before routing and for tokens that are waited
//! for only; for TLS-ALPN-01 a certificate that is shown to nobody who does not ask for `acme-tls/1`. Both are gone as
//! soon as the order is over, however it ends.

use super::failure::Failure;
use crate::pipeline::OutBody;
use crate::tls::CertStore;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use instant_acme::KeyAuthorization;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Where an authority asks (RFC 8555, 8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";

/// The answers for HTTP-01, by token. Read by all threads, written by orders.
#[derive(Default)]
pub(crate) struct HttpAnswers(ArcSwap<HashMap<String, Bytes>>);

impl HttpAnswers {
    /// The answer to a request for `path`; `None`: it is none of an order's, and is routed like any other.
    pub(crate) fn answer(&self, path: &str) -> Option<Response<OutBody>> {
        let token = path.strip_prefix(PREFIX)?;
        let answer = self.0.load().get(token)?.clone();
        let mut response = Response::new(OutBody::full(answer));
        let octets = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, octets);
        Some(response)
    }

    fn set(&self, token: &str, answer: Option<Bytes>) {
        self.0.rcu(|answers| {
            let mut answers = HashMap::clone(answers);
            match &answer {
                Some(answer) => answers.insert(token.to_owned(), answer.clone()),
                None => answers.remove(token),
            };
            answers
        });
    }
}

/// What is shown for one domain, until it is dropped.
pub(super) enum Shown {
    Answer { answers: Arc<HttpAnswers>, token: String },
    Certificate { certificates: Arc<CertStore>, domain: String },
}

impl Shown {
    /// Answers `token` on plain listeners.
    pub(super) fn answer(answers: &Arc<HttpAnswers>, token: &str, proof: &KeyAuthorization) -> Shown {
        answers.set(token, Some(Bytes::copy_from_slice(proof.as_str().as_bytes())));
        Shown::Answer { answers: answers.clone(), token: token.to_owned() }
    }

    /// Shows a certificate with the proof in it on HTTPS listeners.
    pub(super) fn certificate(
        certificates: &Arc<CertStore>,
        domain: &str,
        proof: &KeyAuthorization,
        provider: &CryptoProvider,
    ) -> Result<Shown, Failure> {
        let key = proof_certificate(domain, proof.digest().as_ref(), provider)
            .map_err(|why| Failure::broken(format!("no certificate for TLS-ALPN-01 could be made: {why}")))?;
        certificates.set_challenge(domain, Some(Arc::new(key)));
        Ok(Shown::Certificate { certificates: certificates.clone(), domain: domain.to_owned() })
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        match self {
            Shown::Answer { answers, token } => answers.set(token, None),
            Shown::Certificate { certificates, domain } => certificates.set_challenge(domain, None),
        }
    }
}

/// A certificate that holds a proof (RFC 8737, 3).
fn proof_certificate(domain: &str, digest: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = rcgen::CertificateParams::new([domain.to_owned()]).map_err(|error| error.to_string())?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    // `CertifiedKey::from_der` would read the certificate, and refuse its critical extension, which is the proof.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_a_critical_extension_of_a_certificate_for_the_domain_alone() {
        let provider = rustls::crypto::ring::default_provider();
        let key = proof_certificate("a.example", &[7; 32], &provider).expect("a certificate");
        let der: &[u8] = key.cert[0].as_ref();
        let name = b"\x82\x09a.example";
        // The OID 1.3.6.1.5.5.7.1.31, TRUE, an octet string with the digest as another in it (RFC 8737, 3).
        let proof =
            [&b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f\x01\x01\xff\x04\x22\x04\x20"[..], &[7; 32]].concat();
        assert!(der.windows(name.len()).any(|part| part == name));
        assert!(der.windows(proof.len()).any(|part| part == proof));
    }

    #[test]
    fn only_known_tokens_are_answered() {
        let answers = Arc::new(HttpAnswers::default());
        answers.set("abc", Some(Bytes::from_static(b"abc.proof")));
        let shown = Shown::Answer { answers: answers.clone(), token: "abc".to_owned() };
        assert!(answers.answer("/.well-known/acme-challenge/abc").is_some());
        for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/abcd", "/abc", "/"] {
            assert!(answers.answer(path).is_none(), "{path}");
        }
        drop(shown);
        assert!(answers.answer("/.well-known/acme-challenge/abc").is_none());
    }
}
