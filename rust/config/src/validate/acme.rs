//! Certificates obtained by ACME: from whom, as whom, and by which proof.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::located::readable;
use crate::{
    credentials,
    kinds::{EnvText, Text},
    plan::{Acme, Authority, Challenge, ExternalAccount, Listener, Secret},
    raw,
    report::Report,
    source::{Place, Spanned},
};

/// Where authorities look for proofs: the protocol says so.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// What the rest of the configuration says.
pub(super) struct Ground<'p> {
    /// The directory for what is obtained.
    pub(super) storage: Option<PathBuf>,
    /// Whether it is written, be it readable or (as was reported) not.
    pub(super) storage_is_written: bool,
    /// Plain listeners.
    pub(super) http: &'p [Listener],
    /// HTTPS listeners.
    pub(super) https: &'p [Listener],
}

/// How a certificate for the names in `domains` is obtained.
pub(super) fn acme(
    written: &raw::Certificate,
    domains: &[(String, Place)],
    ground: &Ground<'_>,
    report: &mut Report<'_>,
) -> Option<Acme> {
    if written.has("acme") && written.acme.is_none() {
        return None;
    }
    for (name, place) in domains.iter().filter(|(name, _)| name.starts_with("*.")) {
        report.error_help(
            *place,
            format!("`{name}` cannot be obtained by ACME: authorities want a proof in DNS for a wildcard"),
            "name the hosts one by one, or use a certificate of type `custom`",
        );
    }
    if domains.is_empty() {
        report.error(written.place, "a certificate by ACME needs a domain");
    }
    if ground.storage.is_none() && !ground.storage_is_written {
        report.error_help(
            written.place,
            "a certificate by ACME needs a directory where it is kept",
            "write `acme: ./acme` at the top level",
        );
    }
    let inner = written.acme.as_ref();
    let external_account = external_account(written, inner, report);
    let authority = authority(written, inner, external_account.is_some(), report);
    let email = either("email", text(&written.email), inner.map(|inner| text(&inner.email)), report);
    let email = match email {
        Some(email) => Some(address(email, report)?),
        None => None,
    };
    let challenge = challenge(written, inner, ground, report);
    Some(Acme {
        storage: ground.storage.clone()?,
        authority: authority?,
        email,
        external_account,
        challenge: challenge?,
    })
}

/// The text of a key that may hold the name of an environment variable.
fn text(written: &Option<EnvText>) -> Option<&Text> {
    written.as_ref().map(|text| &text.0)
}

/// A key that stands in `acme` or beside it.
fn either<'w, T>(
    key: &str,
    beside: Option<&'w Spanned<T>>,
    inside: Option<Option<&'w Spanned<T>>>,
    report: &mut Report<'_>,
) -> Option<&'w Spanned<T>> {
    match (beside, inside.flatten()) {
        (Some(beside), Some(inside)) => {
            let first = report.at(beside.place);
            report.error(inside.place, format!("`{key}` is already set at {first}"));
            None
        }
        (beside, inside) => beside.or(inside),
    }
}

fn authority(
    written: &raw::Certificate,
    inner: Option<&raw::Acme>,
    has_external_account: bool,
    report: &mut Report<'_>,
) -> Option<Authority> {
    let url =
        either("directory_url", text(&written.directory_url), inner.map(|i| text(&i.directory_url)), report);
    let ca_file = either(
        "directory_ca_file",
        text(&written.directory_ca_file),
        inner.map(|i| text(&i.directory_ca_file)),
        report,
    );
    let ca_file = match ca_file {
        Some(ca_file) => Some(readable(ca_file, credentials::read_certificates, report)?),
        None => None,
    };
    let staging = either("staging", written.staging.as_ref(), inner.map(|i| i.staging.as_ref()), report);
    let staging = staging.filter(|staging| staging.value);
    let directory_url = match url {
        Some(url) => {
            if let Some(staging) = staging {
                report.warn(staging.place, "`staging` has no effect beside `directory_url`");
            }
            directory(url, report)?
        }
        None => provided(written, staging.map(|staging| staging.place), has_external_account, report)?,
    };
    Some(Authority { directory_url, ca_file })
}

/// A directory that is written.
fn directory(url: &Text, report: &mut Report<'_>) -> Option<String> {
    let parsed = url.value.parse::<http::Uri>().ok().filter(|uri| {
        uri.scheme() == Some(&http::uri::Scheme::HTTPS)
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if parsed.is_none() {
        report.error_help(
            url.place,
            format!("`{}` is no URL of an ACME directory", url.value),
            "write one such as `https://acme.example.com/directory`: the protocol wants `https`",
        );
        return None;
    }
    Some(url.value.clone())
}

/// The directory of a provider.
fn provided(
    written: &raw::Certificate,
    staging: Option<Place>,
    has_external_account: bool,
    report: &mut Report<'_>,
) -> Option<String> {
    let (provider, place) = match &written.provider {
        Some(provider) => (provider.value, provider.place),
        None if written.has("provider") => return None,
        None => (raw::Provider::LetsEncrypt, written.place),
    };
    let (url, tests, wants_account) = match provider {
        raw::Provider::LetsEncrypt => (
            "https://acme-v02.api.letsencrypt.org/directory",
            Some("https://acme-staging-v02.api.letsencrypt.org/directory"),
            false,
        ),
        raw::Provider::ZeroSsl => ("https://acme.zerossl.com/v2/DV90", None, true),
        raw::Provider::Google => (
            "https://dv.acme-v02.api.pki.goog/directory",
            Some("https://dv.acme-v02.test-api.pki.goog/directory"),
            true,
        ),
    };
    if wants_account && !has_external_account && !written_account(written) {
        report.error_help(
            place,
            "this provider issues only to accounts that it knows",
            "make one there, and set `eab_kid` and `eab_hmac_key`",
        );
    }
    match (staging, tests) {
        (None, _) => Some(url.to_owned()),
        (Some(_), Some(tests)) => Some(tests.to_owned()),
        (Some(staging), None) => {
            report.error(staging, "this provider has no service for tests");
            None
        }
    }
}

/// Whether an external account is written, be it readable or (as was reported) not.
fn written_account(written: &raw::Certificate) -> bool {
    let inside = written.acme.as_ref().is_some_and(|inner| inner.has("eab_kid") || inner.has("eab_hmac_key"));
    inside || written.has("eab_kid") || written.has("eab_hmac_key")
}

fn external_account(
    written: &raw::Certificate,
    inner: Option<&raw::Acme>,
    report: &mut Report<'_>,
) -> Option<ExternalAccount> {
    let key_id = either("eab_kid", text(&written.eab_kid), inner.map(|i| text(&i.eab_kid)), report);
    let key =
        either("eab_hmac_key", text(&written.eab_hmac_key), inner.map(|i| text(&i.eab_hmac_key)), report);
    match (key_id, key) {
        (Some(key_id), Some(key)) => {
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(key.value.trim_end_matches('='));
            if decoded.is_err() {
                report.error(key.place, "`eab_hmac_key` is no base64url, as which authorities give it");
            }
            let hmac_key = Secret::new(key.value.clone());
            Some(ExternalAccount { key_id: key_id.value.clone(), hmac_key })
        }
        (Some(one), None) | (None, Some(one)) => {
            report.error(one.place, "`eab_kid` and `eab_hmac_key` belong together");
            None
        }
        (None, None) => None,
    }
}

/// An e-mail address, as far as that can be told by its looks.
fn address(email: &Text, report: &mut Report<'_>) -> Option<String> {
    let bare = email.value.strip_prefix("mailto:").unwrap_or(&email.value);
    let valid = bare.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty()
            && !host.is_empty()
            && bare.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'?'))
    });
    if !valid {
        report.error(email.place, format!("`{}` is no e-mail address", email.value));
        return None;
    }
    Some(bare.to_owned())
}

/// The proof that is written, or the one for which there is a listener, best at the port that authorities ask.
fn challenge(
    written: &raw::Certificate,
    inner: Option<&raw::Acme>,
    ground: &Ground<'_>,
    report: &mut Report<'_>,
) -> Option<Challenge> {
    let chosen = either("challenge", written.challenge.as_ref(), inner.map(|i| i.challenge.as_ref()), report);
    if let Some(chosen) = chosen {
        let (challenge, listeners, key) = match chosen.value {
            raw::Challenge::Http01 => (Challenge::Http01, ground.http, "http"),
            raw::Challenge::TlsAlpn01 => (Challenge::TlsAlpn01, ground.https, "https"),
        };
        // Where there are no listeners at all, one was wrong, or their lack is reported already.
        if listeners.is_empty() && !(ground.http.is_empty() && ground.https.is_empty()) {
            report.error(chosen.place, format!("`{}` needs an `{key}` address", challenge.name()));
        }
        return Some(challenge);
    }
    let at = |listeners: &[Listener], port| listeners.iter().any(|listener| listener.address.port() == port);
    let plain = match (at(ground.http, HTTP_PORT), at(ground.https, HTTPS_PORT)) {
        (true, _) => true,
        (false, true) => false,
        // Another port, behind something that forwards to it.
        (false, false) => !ground.http.is_empty(),
    };
    Some(if plain { Challenge::Http01 } else { Challenge::TlsAlpn01 })
}
