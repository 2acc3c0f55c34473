//! A token from its text to its claims: a JSON Web Signature in its compact form (RFC 7515), as RFC 8725 wants it read.
//!
//! The signatures are verified by ring. What stands around them is small, and what has gone wrong in it elsewhere is
//! decided here in the open: the configuration and the key say which algorithms there are, never the token; what the
//! header brings of keys (`jwk`, `jku`, `x5u`, `x5c`) is not even looked at; an extension that must be understood
//! (`crit`) is refused, since none is; a member that stands twice is refused, since others read the other one.

use super::Refusal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nylon_config::plan::Secret;
use nylon_config::token_keys::{Algorithm, Material, PublicKey};
use ring::{hmac, signature};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Keys of a set that one token may have tried on it: each costs a verification.
const MAX_TRIED: usize = 8;

/// What verifies tokens.
pub(crate) enum Keys {
    /// One secret that also signs.
    Secret(Secret),
    /// Public keys.
    Public(Vec<PublicKey>),
}

/// A token that was read and not yet believed.
#[derive(Debug)]
pub(super) struct Token<'t> {
    algorithm: Algorithm,
    key_id: Option<String>,
    /// Header and payload, as they were signed.
    signed: &'t str,
    payload: &'t str,
    signature: Vec<u8>,
}

/// What a token says, verified.
pub(super) type Claims = Map<String, Value>;

impl<'t> Token<'t> {
    /// Takes a token apart. `allowed` are the algorithms that the configuration takes.
    pub(super) fn read(text: &'t str, allowed: &[Algorithm]) -> Result<Token<'t>, Refusal> {
        const MALFORMED: Refusal = Refusal::Invalid("the token is malformed");
        let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        if payload.contains('.') {
            return Err(MALFORMED);
        }
        let header = object(header).ok_or(MALFORMED)?;
        let Some(Value::String(algorithm)) = header.get("alg") else { return Err(MALFORMED) };
        let algorithm = Algorithm::of_name(algorithm)
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or(Refusal::Invalid("the token is signed in a way that is not taken"))?;
        if header.contains_key("crit") {
            return Err(Refusal::Invalid("the token asks for an extension that is not known"));
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(MALFORMED),
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        Ok(Token { algorithm, key_id, signed, payload, signature })
    }

    /// The claims, where one of `keys` has signed them.
    pub(super) fn verify(&self, keys: &Keys) -> Result<Claims, Refusal> {
        let message = self.signed.as_bytes();
        let genuine = match keys {
            Keys::Secret(secret) => self.is_signed_with(secret, message),
            Keys::Public(keys) => {
                let mut fitting = keys.iter().filter(|key| self.may_be_by(key)).take(MAX_TRIED).peekable();
                if fitting.peek().is_none() {
                    return Err(Refusal::UnknownKey);
                }
                fitting.any(|key| verifies(key, self.algorithm, message, &self.signature))
            }
        };
        if !genuine {
            return Err(Refusal::Invalid("the token's signature is wrong"));
        }
        object(self.payload).ok_or(Refusal::Invalid("the token's claims are malformed"))
    }

    /// A key without a name may be meant by any.
    fn may_be_by(&self, key: &PublicKey) -> bool {
        let named = match (&self.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        named && key.is_for(self.algorithm)
    }

    fn is_signed_with(&self, secret: &Secret, message: &[u8]) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::HS256 => hmac::HMAC_SHA256,
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => return false,
        };
        let key = hmac::Key::new(algorithm, secret.reveal().as_bytes());
        hmac::verify(&key, message, &self.signature).is_ok()
    }
}

fn verifies(key: &PublicKey, algorithm: Algorithm, message: &[u8], proof: &[u8]) -> bool {
    let unparsed = |verification: &'static dyn signature::VerificationAlgorithm, point: &[u8]| {
        signature::UnparsedPublicKey::new(verification, point).verify(message, proof).is_ok()
    };
    match (&key.material, algorithm) {
        (Material::Rsa { modulus, exponent }, _) => {
            let parameters = match algorithm {
                Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
                _ => return false,
            };
            let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
            key.verify(parameters, message, proof).is_ok()
        }
        (Material::P256(point), Algorithm::ES256) => unparsed(&signature::ECDSA_P256_SHA256_FIXED, point),
        (Material::P384(point), Algorithm::ES384) => unparsed(&signature::ECDSA_P384_SHA384_FIXED, point),
        (Material::Ed25519(point), Algorithm::EdDSA) => unparsed(&signature::ED25519, point),
        _ => false,
    }
}

/// The JSON object behind a part of a token.
fn object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice::<Unique>(&json).ok().map(|members| members.0)
}

/// An object no member of which stands twice.
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                }
                Ok(Unique(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    use serde_json::json;

    fn encoded(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A token with this header and payload, signed by `sign`.
    pub(crate) fn signed(header: &str, payload: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", encoded(header), encoded(payload));
        format!("{message}.{}", encoded(sign(message.as_bytes())))
    }

    fn by_secret(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> + '_ {
        |message| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
    }

    struct Ed {
        pair: Ed25519KeyPair,
        key: PublicKey,
    }

    fn ed(id: Option<&str>) -> Ed {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        let material = Material::Ed25519(pair.public_key().as_ref().to_vec());
        Ed { pair, key: PublicKey { id: id.map(str::to_owned), only: None, material } }
    }

    impl Ed {
        fn sign(&self, message: &[u8]) -> Vec<u8> {
            self.pair.sign(message).as_ref().to_vec()
        }
    }

    const SECRET: &str = "a secret of thirty-two bytes, ok";

    fn refused(token: &str, allowed: &[Algorithm], keys: &Keys) -> Refusal {
        match Token::read(token, allowed).and_then(|read| read.verify(keys).map(|_| ())) {
            Err(refusal) => refusal,
            Ok(()) => panic!("taken: {token}"),
        }
    }

    #[test]
    fn what_was_signed_with_the_key_is_taken() {
        let keys = Keys::Secret(Secret::new(SECRET.to_owned()));
        let token = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"a"}"#, by_secret(SECRET.as_bytes()));
        let claims = Token::read(&token, &[Algorithm::HS256]).expect("read").verify(&keys).expect("genuine");
        assert_eq!(claims["sub"], "a");

        let document =
            EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.expect("a key");
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair =
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &SystemRandom::new()).expect("a key");
        let material = Material::P256(pair.public_key().as_ref().to_vec());
        let other = ed(Some("other"));
        let keys =
            Keys::Public(vec![other.key.clone(), PublicKey { id: Some("k".into()), only: None, material }]);
        let sign =
            |message: &[u8]| pair.sign(&SystemRandom::new(), message).expect("signed").as_ref().to_vec();
        let token = signed(r#"{"alg":"ES256","kid":"k"}"#, r#"{"n":1}"#, sign);
        Token::read(&token, &[Algorithm::ES256]).expect("read").verify(&keys).expect("genuine");
        let token = signed(r#"{"alg":"EdDSA","kid":"other"}"#, "{}", |message| other.sign(message));
        Token::read(&token, &[Algorithm::EdDSA]).expect("read").verify(&keys).expect("genuine");
    }

    #[test]
    fn no_token_chooses_its_own_algorithm_or_key() {
        let issuer = ed(Some("k"));
        let Material::Ed25519(public) = &issuer.key.material else { unreachable!() };
        let keys = Keys::Public(vec![issuer.key.clone()]);
        let every = Algorithm::ALL;
        // Signed with the public key as a secret (CVE-2016-5431 and its kin).
        let confused = signed(r#"{"alg":"HS256","kid":"k"}"#, "{}", by_secret(public));
        assert_eq!(refused(&confused, &every, &keys), Refusal::UnknownKey);
        for name in ["none", "None", "NONE", "nOnE", "", "hs256"] {
            let unsigned = signed(&json!({ "alg": name }).to_string(), "{}", |_| Vec::new());
            assert!(matches!(refused(&unsigned, &every, &keys), Refusal::Invalid(_)), "{name}");
        }
        // A key of the attacker's own, in the header (CVE-2018-0114).
        let attacker = ed(None);
        let Material::Ed25519(own) = &attacker.key.material else { unreachable!() };
        let header = json!({ "alg": "EdDSA", "kid": "k", "jwk": { "kty": "OKP", "crv": "Ed25519", "x": encoded(own) } });
        let injected = signed(&header.to_string(), "{}", |message| attacker.sign(message));
        assert!(matches!(refused(&injected, &every, &keys), Refusal::Invalid(_)));
        // An algorithm that the key could do, and the configuration does not take.
        let genuine = signed(r#"{"alg":"EdDSA","kid":"k"}"#, "{}", |message| issuer.sign(message));
        assert!(matches!(refused(&genuine, &[Algorithm::RS256], &keys), Refusal::Invalid(_)));
        for kid in ["../../dev/null", "' OR 1=1", "K"] {
            let unknown =
                signed(&json!({ "alg": "EdDSA", "kid": kid }).to_string(), "{}", |m| issuer.sign(m));
            assert_eq!(refused(&unknown, &every, &keys), Refusal::UnknownKey);
        }
    }

    #[test]
    fn what_others_could_read_in_another_way_is_refused() {
        let keys = Keys::Secret(Secret::new(SECRET.to_owned()));
        let sign = by_secret(SECRET.as_bytes());
        for (header, payload) in [
            (r#"{"alg":"HS256"}"#, r#"{"sub":"a","sub":"b"}"#),
            (r#"{"alg":"HS256","alg":"none"}"#, "{}"),
            (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "{}"),
            (r#"{"alg":"HS256","kid":7}"#, "{}"),
            (r#"{"alg":["HS256"]}"#, "{}"),
            (r#"{"alg":"HS256"}"#, "[]"),
            (r#"{"alg":"HS256"}"#, "{} "),
        ] {
            let token = signed(header, payload, &sign);
            let read = Token::read(&token, &[Algorithm::HS256]).and_then(|read| read.verify(&keys));
            // White space after an object is still that object.
            assert_eq!(read.is_ok(), payload == "{} ", "{header} {payload}");
        }
        let token = signed(r#"{"alg":"HS256"}"#, "{}", &sign);
        let padded = format!("{token}=");
        let extra = format!("{token}.x");
        for text in ["", "a", "a.b", "..", "a.b.c", &padded, &extra, &token[..token.len() - 1]] {
            refused(text, &[Algorithm::HS256], &keys);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_refused_and_nothing_breaks(text in "[A-Za-z0-9_.=-]{0,200}|.{0,50}") {
            let keys = Keys::Public(vec![ed(None).key]);
            let read = Token::read(&text, &Algorithm::ALL).and_then(|token| token.verify(&keys));
            prop_assert!(read.is_err());
        }

        #[test]
        fn one_changed_character_is_noticed(at in 0usize..60, to in "[A-Za-z0-9_-]") {
            let keys = Keys::Secret(Secret::new(SECRET.to_owned()));
            let token = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"a"}"#, by_secret(SECRET.as_bytes()));
            let mut changed = token.clone();
            let at = at % token.len();
            changed.replace_range(at..=at, &to);
            if changed != token {
                let read = Token::read(&changed, &[Algorithm::HS256]).and_then(|token| token.verify(&keys));
                prop_assert!(read.is_err());
            }
        }
    }
}
