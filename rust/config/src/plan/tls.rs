//! TLS towards clients: which certificates there are, and what becomes of plain requests.

use std::path::PathBuf;

use super::Acme;
use crate::diagnostic::Location;

/// A certificate for some names.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// The names that it is for, in lower case: `a.example.com`, or `*.example.com`. No name stands in two of them.
    pub domains: Vec<String>,
    /// Where it comes from.
    pub source: CertificateSource,
    /// Where the configuration defines it.
    pub location: Location,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum CertificateSource {
    /// From files, which are read again when they change.
    Custom(CertificateFiles),
    /// From an authority. The domains are no wildcards.
    Acme(Acme),
}

/// The files of a certificate. They were read once already, when the configuration was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and perhaps its chain behind it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates between it and the root.
    pub chain: Vec<PathBuf>,
}

/// What becomes of a request that reaches a TLS route over plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainRequests {
    /// It is refused.
    Refused,
    /// The client is sent to an HTTPS address.
    Redirected(HttpsTarget),
}

/// An HTTPS address that plain requests are redirected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsTarget {
    /// What stands between `https://` and the path, cut where the host of the request belongs: `${host}:8443` is
    /// `["", ":8443"]`. Never empty.
    pub authority: Vec<String>,
    /// The path and query, where they are not those of the request.
    pub path: Option<String>,
}

impl HttpsTarget {
    /// The whole address, for a request to `host` (without its port) with this path and query.
    pub fn url(&self, host: &str, path: &str, query: Option<&str>) -> String {
        let authority = self.authority.join(host);
        match (&self.path, query) {
            (Some(path), _) => format!("https://{authority}{path}"),
            (None, Some(query)) => format!("https://{authority}{path}?{query}"),
            (None, None) => format!("https://{authority}{path}"),
        }
    }
}
