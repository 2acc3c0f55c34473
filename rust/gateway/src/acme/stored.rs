//! A certificate with its key, as one file.
//!
//! Key and chain stand in one file, since two could not be replaced in one step. It is PEM, which other programs read
//! too; its last line has the SHA-256 of all before it, so that what a crash or a full disk has cut is noticed, also
//! where it was cut between two certificates.

use super::Wanted;
use nylon_config::certificates::About;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the last line begins with.
const SEAL: &str = "# sha256 ";

/// A certificate with its key, checked.
#[derive(Clone)]
pub(super) struct Stored {
    /// As TLS uses it.
    pub(super) key: Arc<CertifiedKey>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// The file for a key and the chain that was issued for it.
pub(super) fn sealed(key_pem: &str, chain_pem: &str) -> String {
    let text = format!("{}\n{}\n", key_pem.trim(), chain_pem.trim());
    let seal = seal(&text);
    format!("{text}{SEAL}{seal}\n")
}

fn seal(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// Reads such a file.
///
/// # Errors
/// Why it is not whole, or not what is wanted.
pub(super) fn read(bytes: &[u8], wanted: &Wanted, provider: &CryptoProvider) -> Result<Stored, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
    let (body, last) = text.rsplit_once(SEAL).ok_or("it is not whole: its last line is missing")?;
    if seal(body) != last.trim_end() {
        return Err("it is not whole, or was changed: its last line belongs to another content".to_owned());
    }
    checked(body, body, wanted, provider)
}

/// A key and its chain, if they belong together and to the domains that are wanted.
///
/// # Errors
/// Why not.
pub(super) fn checked(
    key_pem: &str,
    chain_pem: &str,
    wanted: &Wanted,
    provider: &CryptoProvider,
) -> Result<Stored, String> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| format!("its key cannot be read: {error}"))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("its chain cannot be read: {error}"))?;
    let leaf = chain.first().ok_or("it has no certificate")?;
    let about = About::read(leaf).ok_or("its certificate is malformed")?;
    let missing: Vec<&str> =
        wanted.domains.iter().map(String::as_str).filter(|domain| !about.covers(domain)).collect();
    if !missing.is_empty() {
        return Err(format!("its certificate is not for {}", missing.join(", ")));
    }
    let (not_before, not_after) = (time(about.not_before), time(about.not_after));
    if not_after <= not_before {
        return Err("its certificate is never valid".to_owned());
    }
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| error.to_string())?;
    Ok(Stored { key: Arc::new(key), not_before, not_after })
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nylon_config::plan::{Acme, Authority, Challenge};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::crypto::ring;

    fn wanted(domains: &[&str]) -> Wanted {
        let authority = Authority { directory_url: "https://ca.example/".to_owned(), ca_file: None };
        let acme = Acme {
            storage: "/acme".into(),
            authority,
            email: None,
            external_account: None,
            challenge: Challenge::Http01,
        };
        Wanted { domains: domains.iter().map(ToString::to_string).collect(), acme }
    }

    /// A key, a certificate for `domain`, and the authority's own behind it.
    fn issued(domain: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer_key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&issuer_key).expect("a root");
        let issuer = Issuer::new(params, issuer_key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([domain.to_owned()]).expect("a name");
        let leaf = params.signed_by(&key, &issuer).expect("a certificate");
        (key.serialize_pem(), format!("{}{}", leaf.pem(), root.pem()))
    }

    #[test]
    fn what_was_sealed_is_read_and_nothing_less() {
        let provider = ring::default_provider();
        let (key, chain) = issued("a.example");
        let text = sealed(&key, &chain);
        let stored = read(text.as_bytes(), &wanted(&["a.example"]), &provider).expect("whole");
        assert_eq!(stored.key.cert.len(), 2);
        for length in 0..text.len() - 1 {
            assert!(
                read(&text.as_bytes()[..length], &wanted(&["a.example"]), &provider).is_err(),
                "{length}"
            );
        }
        let changed = text.replacen('A', "B", 1);
        assert!(read(changed.as_bytes(), &wanted(&["a.example"]), &provider).is_err());
        assert!(read(&vec![0; text.len()], &wanted(&["a.example"]), &provider).is_err());
    }

    #[test]
    fn a_certificate_for_others_or_of_another_key_is_of_no_use() {
        let provider = ring::default_provider();
        let (key, chain) = issued("a.example");
        let refused = |key: &str, chain: &str, domains: &[&str]| {
            checked(key, chain, &wanted(domains), &provider).err().expect("a reason")
        };
        assert!(refused(&key, &chain, &["a.example", "b.example"]).contains("not for b.example"));
        assert!(refused(&issued("a.example").0, &chain, &["a.example"]).contains("Mismatch"));
        assert!(refused(&key, "", &["a.example"]).contains("no certificate"));
        assert!(refused("", &chain, &["a.example"]).contains("key cannot be read"));
    }
}
