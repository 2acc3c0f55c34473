//! The payload of `JwtAuth`.

use std::time::Duration;

use http::{HeaderName, Uri, uri::Scheme};

use super::super::{fields, located::readable, millis};
use super::basic_auth::realm;
use crate::{
    kinds::{EnvText, Named, OneOrMany, Text},
    plan::{FetchedKeys, JwtAuth, Secret, TokenKeys},
    raw,
    report::Report,
    source::Spanned,
    token_keys::{self, Algorithm},
};

pub(super) fn jwt_auth(written: &raw::JwtAuth, report: &mut Report<'_>) -> Option<JwtAuth> {
    let keys = keys(written, report);
    let algorithms = algorithms(written, keys.as_ref(), report);
    if written.issuer.is_none() && !written.has("issuer") {
        report.warn(written.place, "without `issuer`, a token is taken from whoever has one of these keys");
    }
    if written.audience.is_none() && !written.has("audience") {
        report.warn(
            written.place,
            "without `audience`, a token that was made for another service is taken too",
        );
    }
    let headers = headers(written, report);
    let header = fields::name(written.header.as_ref()?, report);
    let realm = realm(written.realm.as_ref()?, report);
    let flag = |flag: &Option<Spanned<bool>>| flag.as_ref().is_none_or(|flag| flag.value);
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    let claims = written.claims.iter().flat_map(|Named(claims)| claims);
    Some(JwtAuth {
        keys: keys?,
        algorithms: algorithms?,
        issuers: texts(written.issuer.as_ref()),
        audiences: texts(written.audience.as_ref()),
        leeway: Duration::from_secs(written.leeway_seconds?.value),
        needs_expiry: flag(&written.require_expiry),
        required: texts(written.require.as_ref()),
        scopes: texts(written.scopes.as_ref()),
        claims: claims.map(|(name, values)| (name.value.clone(), texts(Some(values)))).collect(),
        header: header?,
        cookie: text(&written.cookie),
        query: text(&written.query),
        headers: headers?,
        forward_token: flag(&written.forward_token),
        realm: realm?,
    })
}

fn texts(list: Option<&OneOrMany<Text>>) -> Vec<String> {
    list.iter().flat_map(|OneOrMany(items)| items).map(|item| item.value.clone()).collect()
}

/// What verifies tokens: one of three.
fn keys(written: &raw::JwtAuth, report: &mut Report<'_>) -> Option<TokenKeys> {
    const ONE_WAY: &str = "either `jwks`, or a `public_key`, or a `secret`";
    match ["jwks", "public_key", "secret"].iter().filter(|key| written.has(key)).count() {
        1 => {}
        0 => {
            let help =
                "write `jwks: {url: https://...}` with the address that the issuer publishes its keys at";
            report.error_help(written.place, format!("a `JwtAuth` needs keys: {ONE_WAY}"), help);
            return None;
        }
        _ => {
            report.error(written.place, format!("there is one kind of keys: {ONE_WAY}"));
            return None;
        }
    }
    if let Some(EnvText(secret)) = &written.secret {
        return Some(TokenKeys::Secret(Secret::new(secret.value.clone())));
    }
    if let Some(EnvText(file)) = &written.public_key {
        return readable(file, token_keys::read_pem, report).map(TokenKeys::Pem);
    }
    let jwks = written.jwks.as_ref()?;
    match (&jwks.url, &jwks.file) {
        (Some(_), Some(EnvText(file))) => {
            report.error(file.place, "either a `url` or a `file`, not both");
            None
        }
        (None, Some(EnvText(file))) => readable(file, token_keys::read_set, report).map(TokenKeys::Set),
        (Some(EnvText(url)), None) => fetched(url, jwks, report).map(TokenKeys::Fetched),
        (None, None) => {
            if !jwks.has("url") && !jwks.has("file") {
                report.error(jwks.place, "`jwks` needs a `url` or a `file`");
            }
            None
        }
    }
}

fn fetched(url: &Text, jwks: &raw::Jwks, report: &mut Report<'_>) -> Option<FetchedKeys> {
    let found = url.value.parse::<Uri>().ok().filter(|uri| {
        let known = uri.scheme() == Some(&Scheme::HTTPS) || uri.scheme() == Some(&Scheme::HTTP);
        let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        known && !user && uri.host().is_some_and(|host| !host.is_empty())
    });
    let Some(found) = found else {
        report.error_help(url.place, "this is no address of a key set", "write `https://host/path`");
        return None;
    };
    let host = found.host().unwrap_or_default();
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    if found.scheme() == Some(&Scheme::HTTP) && !loopback {
        report.warn(
            url.place,
            "keys that are fetched without TLS can be replaced on the way: write `https://`",
        );
    }
    let ca_file = match &jwks.ca_file {
        Some(text) => Some(readable(&text.0, crate::credentials::read_certificates, report)?),
        None if jwks.has("ca_file") => return None,
        None => None,
    };
    Some(FetchedKeys {
        url: found,
        ca_file,
        refresh: Duration::from_secs(jwks.refresh_seconds?.value),
        min_refresh: Duration::from_secs(jwks.min_refresh_seconds?.value),
        timeout: millis(jwks.timeout_ms?),
    })
}

/// The algorithms that are taken, all of the kind that the keys are, so that a public key is never used as a secret.
fn algorithms(
    written: &raw::JwtAuth,
    keys: Option<&TokenKeys>,
    report: &mut Report<'_>,
) -> Option<Vec<Algorithm>> {
    let symmetric = written.has("secret");
    let algorithms = match &written.algorithms {
        None if written.has("algorithms") => return None,
        None if symmetric => vec![Algorithm::HS256],
        None => vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        Some(OneOrMany(list)) => {
            if list.is_empty() {
                report
                    .error(written.place, "the list of `algorithms` is empty, so that no token can be taken");
                return None;
            }
            let mut algorithms = Vec::new();
            for item in list {
                let algorithm = algorithm(item.value);
                if algorithm.is_symmetric() != symmetric {
                    let (name, keys) =
                        (algorithm.name(), if symmetric { "a `secret`" } else { "public keys" });
                    report.error(item.place, format!("{name} does not go with {keys}"));
                }
                algorithms.push(algorithm);
            }
            algorithms
        }
    };
    if let (Some(EnvText(text)), Some(TokenKeys::Secret(secret))) = (&written.secret, keys) {
        // RFC 7518, 3.2. A shorter one can be guessed from a single token.
        let bits = |algorithm: &Algorithm| match algorithm {
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => 32,
        };
        let wanted = algorithms.iter().map(bits).max().unwrap_or(32);
        let has = secret.reveal().len();
        if has < wanted {
            report.error_help(
                text.place,
                format!("the secret has {has} bytes, and these algorithms need {wanted} at least"),
                "make one with `openssl rand -hex 32`",
            );
        }
    }
    Some(algorithms)
}

fn algorithm(written: raw::TokenAlgorithm) -> Algorithm {
    use raw::TokenAlgorithm as Written;
    match written {
        Written::HS256 => Algorithm::HS256,
        Written::HS384 => Algorithm::HS384,
        Written::HS512 => Algorithm::HS512,
        Written::RS256 => Algorithm::RS256,
        Written::RS384 => Algorithm::RS384,
        Written::RS512 => Algorithm::RS512,
        Written::PS256 => Algorithm::PS256,
        Written::PS384 => Algorithm::PS384,
        Written::PS512 => Algorithm::PS512,
        Written::ES256 => Algorithm::ES256,
        Written::ES384 => Algorithm::ES384,
        Written::EdDSA => Algorithm::EdDSA,
    }
}

fn headers(written: &raw::JwtAuth, report: &mut Report<'_>) -> Option<Vec<(HeaderName, String)>> {
    let mut headers: Vec<(HeaderName, String)> = Vec::new();
    let mut all = true;
    for (name, claim) in written.headers.iter().flat_map(|Named(headers)| headers) {
        let Some(found) = fields::name(name, report) else {
            all = false;
            continue;
        };
        if headers.iter().any(|(known, _)| *known == found) {
            report.error(name.place, format!("the header `{found}` stands here twice"));
        }
        headers.push((found, claim.value.clone()));
    }
    (all && (written.headers.is_some() || !written.has("headers"))).then_some(headers)
}
