//! The keys that verify the signatures of tokens: a JSON Web Key Set (RFC 7517) or a public key in a PEM file.
//!
//! What is read here is public. A key that signs and verifies alike (`kty: oct`) is never taken from a set: who could read
//! it could make tokens, and the confusion of a public key with a secret has no place to happen. A key says what
//! algorithms it is for, so a token never chooses among more than those.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde_json::Value;
use x509_parser::{oid_registry as oid, prelude::FromDer, x509::SubjectPublicKeyInfo};

/// More than a key set has a reason to hold.
pub const MAX_BYTES: usize = 1 << 20;
/// More keys than an issuer has a reason to have.
const MAX_KEYS: usize = 1000;
/// Bytes of the modulus of the smallest RSA key that is taken: 2048 bits (RFC 7518, 3.3).
const MIN_MODULUS: usize = 256;
/// Bytes of the largest.
const MAX_MODULUS: usize = 1024;

/// How a token is signed (RFC 7518, 3.1; RFC 8037). There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the registered ones")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 12] = [
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::HS384 => "HS384",
            Algorithm::HS512 => "HS512",
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that name, in just that spelling.
    pub fn of_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether one secret signs and verifies.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }
}

/// A key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name in its set (`kid`).
    pub id: Option<String>,
    /// The only algorithm that it is for, where it says so.
    pub only: Option<Algorithm>,
    /// The key itself.
    pub material: Material,
}

/// The numbers of a public key, big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// RSA.
    Rsa {
        /// Without leading zeros.
        modulus: Vec<u8>,
        /// Without leading zeros.
        exponent: Vec<u8>,
    },
    /// A point on P-256, uncompressed.
    P256(Vec<u8>),
    /// A point on P-384, uncompressed.
    P384(Vec<u8>),
    /// Ed25519.
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// Whether a signature by `algorithm` may be verified with this key.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        let fits = match self.material {
            Material::Rsa { .. } => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Material::P256(_) => algorithm == ES256,
            Material::P384(_) => algorithm == ES384,
            Material::Ed25519(_) => algorithm == EdDSA,
        };
        fits && self.only.is_none_or(|only| only == algorithm)
    }
}

/// The keys in the set that is written in the file at `path`. Never empty.
///
/// # Errors
///
/// Why there are none, to follow "the file ...".
pub fn read_set(path: &Path) -> Result<Vec<PublicKey>, String> {
    parse_set(&read(path)?)
}

/// The public key in the PEM file at `path`: a key by itself, or that of a certificate.
///
/// # Errors
///
/// Why there is none, to follow "the file ...".
pub fn read_pem(path: &Path) -> Result<PublicKey, String> {
    let text = read(path)?;
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(&text) {
        return public_key(&key);
    }
    if let Ok(certificate) = CertificateDer::from_pem_slice(&text) {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&certificate)
            .map_err(|_| "holds a broken certificate".to_owned())?;
        return public_key(certificate.public_key().raw);
    }
    if text.windows(11).any(|part| part == b"PRIVATE KEY") {
        return Err("holds a private key: it belongs to whoever signs; a public one verifies".to_owned());
    }
    Err("holds no public key (`-----BEGIN PUBLIC KEY-----`) and no certificate".to_owned())
}

/// The keys in `text`, a JSON Web Key Set. Never empty. Keys that cannot verify the signature of a token are left out, as
/// RFC 7517 asks for (5).
///
/// # Errors
///
/// Why there are none, to follow "the file ...".
pub fn parse_set(text: &[u8]) -> Result<Vec<PublicKey>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    let set: Value = serde_json::from_slice(text).map_err(|why| format!("is no JSON: {why}"))?;
    let Some(keys) = set.get("keys").and_then(Value::as_array) else {
        return Err("is no JSON Web Key Set: an object with the list `keys`".to_owned());
    };
    if keys.len() > MAX_KEYS {
        return Err(format!("holds more than {MAX_KEYS} keys"));
    }
    let mut unfit = Vec::new();
    let mut found = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match jwk(key) {
            Ok(key) => found.push(key),
            Err(why) => unfit.push(format!("key {} {why}", index + 1)),
        }
    }
    if found.is_empty() {
        unfit.truncate(5);
        let why = if unfit.is_empty() { String::new() } else { format!(": {}", unfit.join("; ")) };
        return Err(format!("holds no key that verifies tokens{why}"));
    }
    Ok(found)
}

/// One JSON Web Key; an error follows "key 1 ...".
fn jwk(key: &Value) -> Result<PublicKey, String> {
    let text = |name: &str| match key.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("has a `{name}` that is no text")),
    };
    let bytes = |name: &str| {
        let text = text(name)?.ok_or_else(|| format!("has no `{name}`"))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("has a `{name}` that is no base64url"))
    };
    if text("use")?.is_some_and(|purpose| purpose != "sig") {
        return Err("is for something else (`use`)".to_owned());
    }
    let verifies = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
    if key.get("key_ops").and_then(Value::as_array).is_some_and(|operations| !verifies(operations)) {
        return Err("is for something else (`key_ops`)".to_owned());
    }
    let only = match text("alg")? {
        None => None,
        Some(name) => Some(Algorithm::of_name(name).ok_or("has an `alg` that is not known here")?),
    };
    let curve = text("crv")?.unwrap_or_default();
    let material = match (text("kty")?.unwrap_or_default(), curve) {
        ("RSA", _) => rsa(&bytes("n")?, &bytes("e")?)?,
        ("EC", "P-256") => Material::P256(point(&bytes("x")?, &bytes("y")?, 32)?),
        ("EC", "P-384") => Material::P384(point(&bytes("x")?, &bytes("y")?, 48)?),
        ("OKP", "Ed25519") => ed25519(&bytes("x")?)?,
        ("oct", _) => return Err("is a secret (`oct`): a set holds public keys".to_owned()),
        _ => return Err("has a `kty` and `crv` that are not known here".to_owned()),
    };
    let found = PublicKey { id: text("kid")?.map(str::to_owned), only, material };
    match only {
        Some(only) if !found.is_for(only) => Err("has an `alg` that does not go with its `kty`".to_owned()),
        _ => Ok(found),
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Material, String> {
    let stripped = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    };
    let (modulus, exponent) = (stripped(modulus), stripped(exponent));
    match modulus.len() {
        MIN_MODULUS..=MAX_MODULUS if !exponent.is_empty() => Ok(Material::Rsa { modulus, exponent }),
        MIN_MODULUS..=MAX_MODULUS => Err("has no exponent".to_owned()),
        length => Err(format!("is an RSA key of {} bits, and only 2048 to 8192 are taken", length * 8)),
    }
}

fn point(x: &[u8], y: &[u8], length: usize) -> Result<Vec<u8>, String> {
    if x.len() != length || y.len() != length {
        return Err("has coordinates that are not of its curve's length".to_owned());
    }
    Ok([&[4], x, y].concat())
}

fn ed25519(x: &[u8]) -> Result<Material, String> {
    if x.len() != 32 {
        return Err("has an `x` that is no Ed25519 key".to_owned());
    }
    Ok(Material::Ed25519(x.to_vec()))
}

/// The key in a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7); an error follows "the file ...".
fn public_key(der: &[u8]) -> Result<PublicKey, String> {
    const BROKEN: &str = "holds a broken public key";
    let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| BROKEN.to_owned())?;
    let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let algorithm = &info.algorithm.algorithm;
    let bits = &*info.subject_public_key.data;
    let material = if *algorithm == oid::OID_PKCS1_RSAENCRYPTION {
        let Ok(x509_parser::public_key::PublicKey::RSA(key)) = info.parsed() else {
            return Err(BROKEN.to_owned());
        };
        rsa(key.modulus, key.exponent).map_err(|why| format!("holds what {why}"))?
    } else if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
        match (bits.len(), bits.first(), curve) {
            (65, Some(4), Some(curve)) if curve == oid::OID_EC_P256 => Material::P256(bits.to_vec()),
            (97, Some(4), Some(curve)) if curve == oid::OID_NIST_EC_P384 => Material::P384(bits.to_vec()),
            _ => return Err("holds an EC key on another curve than P-256 and P-384".to_owned()),
        }
    } else if *algorithm == oid::OID_SIG_ED25519 {
        ed25519(bits).map_err(|_| BROKEN.to_owned())?
    } else {
        return Err("holds a public key that is neither RSA nor EC nor Ed25519".to_owned());
    };
    Ok(PublicKey { id: None, only: None, material })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |why: std::io::Error| format!("cannot be read: {why}");
    let found = fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        return Err("is no regular file".to_owned());
    }
    if found.len() > MAX_BYTES as u64 {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    fs::read(path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn encoded(length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![7; length])
    }

    fn set(keys: Value) -> Result<Vec<PublicKey>, String> {
        parse_set(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_set_gives_the_keys_that_verify_and_leaves_out_the_others() {
        let keys = set(json!([
            { "kty": "RSA", "kid": "a", "alg": "RS256", "use": "sig", "n": encoded(256), "e": "AQAB" },
            { "kty": "RSA", "use": "enc", "n": encoded(256), "e": "AQAB" },
            { "kty": "EC", "crv": "P-256", "kid": "b", "x": encoded(32), "y": encoded(32), "key_ops": ["verify"] },
            { "kty": "EC", "crv": "P-521", "x": encoded(66), "y": encoded(66) },
            { "kty": "OKP", "crv": "Ed25519", "x": encoded(32) },
            { "kty": "oct", "k": encoded(32) },
            "nonsense",
        ]))
        .expect("three keys");
        let ids: Vec<_> = keys.iter().map(|key| key.id.as_deref()).collect();
        assert_eq!(ids, [Some("a"), Some("b"), None]);
        assert!(
            keys[0].is_for(Algorithm::RS256) && !keys[0].is_for(Algorithm::PS256),
            "it names its algorithm"
        );
        assert!(keys[1].is_for(Algorithm::ES256) && !keys[1].is_for(Algorithm::ES384));
        assert!(keys.iter().all(|key| !key.is_for(Algorithm::HS256)), "a public key is no secret");
    }

    #[test]
    fn a_set_without_a_key_says_why() {
        for (keys, why) in [
            (json!([]), "no key that verifies"),
            (json!([{ "kty": "oct", "k": "AAAA" }]), "a secret"),
            (json!([{ "kty": "RSA", "n": encoded(128), "e": "AQAB" }]), "1024 bits"),
            (json!([{ "kty": "RSA", "n": "!", "e": "AQAB" }]), "no base64url"),
            (json!([{ "kty": "RSA", "alg": "ES256", "n": encoded(256), "e": "AQAB" }]), "does not go with"),
            (json!([{ "kty": "RSA", "alg": "none", "n": encoded(256), "e": "AQAB" }]), "not known"),
            (json!([{ "kty": "EC", "crv": "P-384", "x": encoded(32), "y": encoded(32) }]), "length"),
            (json!([{ "kty": 1 }]), "no text"),
        ] {
            let said = set(keys.clone()).expect_err("no key");
            assert!(said.contains(why), "{keys}: {said}");
        }
        assert!(parse_set(b"<html>").expect_err("no JSON").contains("no JSON"));
        assert!(parse_set(b"[]").expect_err("no set").contains("no JSON Web Key Set"));
    }

    #[test]
    fn a_file_that_is_no_public_key_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.pem");
        for (text, why) in [
            ("hello", "no public key"),
            ("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n", "private key"),
            ("-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n", "broken public key"),
        ] {
            std::fs::write(&path, text).expect("write");
            let said = read_pem(&path).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_set_holds_is_keys_or_a_reason(text in ".{0,200}", kty in "RSA|EC|OKP|oct|.{0,3}", n in "[A-Za-z0-9_=-]{0,400}") {
            let _ = parse_set(text.as_bytes());
            let _ = set(json!([{ "kty": kty, "crv": "P-256", "n": n, "e": n, "x": n, "y": n, "kid": text }]));
        }
    }
}
