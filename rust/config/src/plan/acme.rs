//! Certificates that a certificate authority issues by itself (ACME, RFC 8555).

use std::path::PathBuf;

use super::Secret;

/// How a certificate is obtained and renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The directory for accounts and certificates.
    pub storage: PathBuf,
    /// Who issues it.
    pub authority: Authority,
    /// The address that the authority may write to.
    pub email: Option<String>,
    /// The account elsewhere that the one at the authority belongs to.
    pub external_account: Option<ExternalAccount>,
    /// How the authority is shown who controls the domains.
    pub challenge: Challenge,
}

/// A certificate authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The URL of its ACME directory; `https`.
    pub directory_url: String,
    /// The certificate authorities that its own certificate is checked against; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// An account that was made by other means (RFC 8555, 7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its id.
    pub key_id: String,
    /// Its key, in base64url as the authority gave it; decoding it cannot fail.
    pub hmac_key: Secret,
}

/// How the control over a domain is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By what a plain listener answers (RFC 8555, 8.3). The authority asks port 80.
    Http01,
    /// By the certificate that an HTTPS listener shows (RFC 8737). The authority asks port 443.
    TlsAlpn01,
}

impl Challenge {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Challenge::Http01 => "http-01",
            Challenge::TlsAlpn01 => "tls-alpn-01",
        }
    }
}
