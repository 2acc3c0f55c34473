//! Who comes with a JSON Web Token.

use std::{path::PathBuf, time::Duration};

use http::{HeaderName, Uri};

use super::super::Secret;
use crate::token_keys::Algorithm;

/// Which tokens are taken, and what the service is told.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtAuth {
    /// What verifies them.
    pub keys: TokenKeys,
    /// How they may be signed. Never empty, and all of the kind that the keys are.
    pub algorithms: Vec<Algorithm>,
    /// The claim `iss` must be one of these; empty takes any.
    pub issuers: Vec<String>,
    /// The claim `aud` must have one of these; empty takes any.
    pub audiences: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Whether a token must say when it ends.
    pub needs_expiry: bool,
    /// Claims that a token must have.
    pub required: Vec<String>,
    /// Words that must all be in its scope.
    pub scopes: Vec<String>,
    /// Claims, and the values of which each must have one.
    pub claims: Vec<(String, Vec<String>)>,
    /// The request header with the token; with `authorization` it follows the scheme `Bearer`.
    pub header: HeaderName,
    /// The cookie that may have it.
    pub cookie: Option<String>,
    /// The parameter of the query that may have it.
    pub query: Option<String>,
    /// Request headers that tell the service of claims.
    pub headers: Vec<(HeaderName, String)>,
    /// Whether the service gets the token.
    pub forward_token: bool,
    /// What the challenge says after `Bearer `: the realm, quoted.
    pub realm: String,
}

/// What verifies tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenKeys {
    /// A secret.
    Secret(Secret),
    /// A file with one public key, which [`crate::token_keys::read_pem`] reads.
    Pem(PathBuf),
    /// A file with a key set, which [`crate::token_keys::read_set`] reads.
    Set(PathBuf),
    /// A key set that is fetched.
    Fetched(FetchedKeys),
}

/// A key set that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedKeys {
    /// Where: `https://...` or `http://...`.
    pub url: Uri,
    /// PEM file of the authorities to trust; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// The longest time before it is fetched again.
    pub refresh: Duration,
    /// The shortest time between two fetches.
    pub min_refresh: Duration,
    /// How long a fetch may take.
    pub timeout: Duration,
}
