//! Certificates of servers, read from their files.
//!
//! They are read here when a configuration is checked, and again by the gateway at each start, reload and change of a
//! file, so that both judge them alike. Nothing here puts what it has read into a reason.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{Error, InconsistentKeys, crypto::ring, sign::CertifiedKey};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{credentials, plan::CertificateFiles};

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// The certificate with its chain and its key.
    pub certified: Arc<CertifiedKey>,
    /// What it says of itself.
    pub about: About,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The names that it was issued for, in lower case.
    pub names: Vec<String>,
    /// From when on it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
}

/// Why a certificate cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateError {
    /// The file that is to blame.
    pub file: PathBuf,
    /// Why, to follow "the file ...".
    pub reason: String,
}

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the file `{}` {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for CertificateError {}

/// Reads a certificate from its files, and checks that the key belongs to it.
///
/// # Errors
///
/// The first file that is missing, broken or does not fit.
pub fn load(files: &CertificateFiles) -> Result<ServerCertificate, CertificateError> {
    let blame = |file: &Path, reason: String| CertificateError { file: file.to_owned(), reason };
    let read = |file: &Path| credentials::read_certificates(file).map_err(|reason| blame(file, reason));
    let mut chain = read(&files.cert)?;
    for file in &files.chain {
        // Some chains begin with the certificate itself.
        let links = read(file)?;
        chain.extend(links.into_iter().filter(|link| !chain.contains(link)).collect::<Vec<_>>());
    }
    let about = About::read(&chain[0]).ok_or_else(|| blame(&files.cert, MALFORMED.to_owned()))?;
    let key = credentials::read_key(&files.key).map_err(|reason| blame(&files.key, reason))?;
    let certified =
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|why| match why {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let first = files.cert.display();
                blame(
                    &files.key,
                    format!("holds the key of another certificate than the first one in `{first}`"),
                )
            }
            Error::InvalidCertificate(_) => blame(&files.cert, MALFORMED.to_owned()),
            _ => blame(&files.key, UNUSABLE_KEY.to_owned()),
        })?;
    Ok(ServerCertificate { certified: Arc::new(certified), about })
}

const MALFORMED: &str = "holds a malformed certificate";
const UNUSABLE_KEY: &str = "holds a private key that TLS has no use for: RSA with 2048 bits or more, ECDSA P-256 or P-384 and Ed25519 are of use";

impl About {
    /// Reads a certificate in DER. `None`: it is none.
    pub fn read(der: &[u8]) -> Option<About> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let validity = certificate.validity();
        Some(About {
            names: names.collect(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Whether clients take the certificate for `domain`, which may be `*.` and a name. Lower case.
    pub fn covers(&self, domain: &str) -> bool {
        let parent = domain.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| {
            name == domain || name.strip_prefix("*.").is_some_and(|suffix| Some(suffix) == parent)
        })
    }

    /// Why clients do not take the certificate at this time, to follow "the certificate ...".
    pub fn problem(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        if now > self.not_after {
            Some(format!("has expired {} ago", span(now - self.not_after)))
        } else if now < self.not_before {
            Some(format!("is not valid yet, but in {}", span(self.not_before - now)))
        } else {
            None
        }
    }
}

/// A number of seconds, in the unit that says most.
fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label_and_itself() {
        let names = ["a.test", "*.b.test"].map(str::to_owned).to_vec();
        let about = About { names, not_before: 100, not_after: 200_000 };
        for covered in ["a.test", "x.b.test", "*.b.test"] {
            assert!(about.covers(covered), "{covered}");
        }
        for other in ["b.test", "x.y.b.test", "x.a.test", "*.a.test", "test", ""] {
            assert!(!about.covers(other), "{other}");
        }
    }

    #[test]
    fn a_certificate_has_a_time() {
        let about = About { names: Vec::new(), not_before: 7300, not_after: 100_000 };
        let problem = |seconds| about.problem(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        assert_eq!(problem(10).as_deref(), Some("is not valid yet, but in 2 hours"));
        assert_eq!(problem(7300), None);
        assert_eq!(problem(100_000), None);
        assert_eq!(problem(100_061).as_deref(), Some("has expired 1 minute ago"));
        assert_eq!(problem(400_000).as_deref(), Some("has expired 3 days ago"));
    }
}
