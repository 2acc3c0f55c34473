//! The files that prove who somebody is to a broker or an upstream, and who that is.
//!
//! They are read when a configuration is checked, so that a broken one is told with its place, and again at each
//! connect, so that a rotated one counts. Nothing here puts what it has read into a reason.

use std::{fs, path::Path};

use nkeys::{KeyPair, KeyPairType};
use rustls::{crypto::ring, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use crate::plan::Secret;

/// More than any of these files has a reason to hold.
const MAX_BYTES: u64 = 1 << 20;

/// A user's JWT and the seed that signs for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creds {
    /// The JWT, as it is sent to the broker.
    pub jwt: Secret,
    /// The seed.
    pub seed: Secret,
}

/// The seed in the file at `path`: the first line that is neither empty nor a comment (`#`).
///
/// # Errors
///
/// Why there is none, to follow "the file ...".
pub fn read_seed(path: &Path) -> Result<Secret, String> {
    let text = read(path)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seed = lines.next().unwrap_or_default();
    if seed.starts_with("-----BEGIN") {
        return Err("is a `.creds` file, not an nkey seed".to_owned());
    }
    user_seed(seed)
}

/// JWT and seed in the `.creds` file at `path`.
///
/// # Errors
///
/// Why they are not there, to follow "the file ...".
pub fn read_creds(path: &Path) -> Result<Creds, String> {
    let text = read(path)?;
    let jwt = block(&text, "NATS USER JWT").ok_or("holds no user JWT (`-----BEGIN NATS USER JWT-----`)")?;
    let seed =
        block(&text, "USER NKEY SEED").ok_or("holds no user seed (`-----BEGIN USER NKEY SEED-----`)")?;
    if jwt.split('.').count() != 3 {
        return Err("holds a user JWT that is none: three parts joined by dots".to_owned());
    }
    Ok(Creds { jwt: Secret::new(jwt.to_owned()), seed: user_seed(seed)? })
}

/// Certificates in the PEM file at `path`. Never empty.
///
/// # Errors
///
/// Why there are none, to follow "the file ...".
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err("holds no certificate (`-----BEGIN CERTIFICATE-----`)".to_owned())
        }
        Ok(found) => Ok(found),
        Err(why) => Err(format!("is no PEM file: {}", pem_reason(&why))),
    }
}

/// The private key in the PEM file at `path`.
///
/// # Errors
///
/// Why there is none, to follow "the file ...".
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if text.contains("ENCRYPTED PRIVATE KEY") => {
            Err("holds an encrypted private key: nobody is here to ask for its password".to_owned())
        }
        Err(pem::Error::NoItemsFound) => {
            Err("holds no private key (`-----BEGIN PRIVATE KEY-----`)".to_owned())
        }
        Err(why) => Err(format!("is no PEM file: {}", pem_reason(&why))),
    }
}

/// Whether the key in the PEM file at `key` is that of the certificate in the one at `cert`.
///
/// # Errors
///
/// Why they cannot be used together.
pub fn check_pair(cert: &Path, key: &Path) -> Result<(), String> {
    let of_file = |path: &Path, why: String| format!("the file `{}` {why}", path.display());
    let chain = read_certificates(cert).map_err(|why| of_file(cert, why))?;
    let secret = read_key(key).map_err(|why| of_file(key, why))?;
    match CertifiedKey::from_der(chain, secret, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(of_file(key, format!("holds the key of another certificate than `{}`", cert.display())))
        }
        Err(why) => Err(format!("`{}` and `{}` cannot be used: {why}", cert.display(), key.display())),
    }
}

/// The signature of `nonce`, which a broker asks for as proof of a seed.
///
/// # Errors
///
/// When the seed is none.
pub fn sign(seed: &Secret, nonce: &[u8]) -> Result<Vec<u8>, String> {
    key_pair(seed)?.sign(nonce).map_err(|why| why.to_string())
}

/// The public key of a seed, by which a broker knows its user.
///
/// # Errors
///
/// When the seed is none.
pub fn public_key(seed: &Secret) -> Result<String, String> {
    Ok(key_pair(seed)?.public_key())
}

/// Whether others than the owner and the group may read the file: reason enough for a warning.
pub fn is_readable_by_all(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |why: std::io::Error| format!("cannot be read: {why}");
    let found = fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        return Err("is no regular file".to_owned());
    }
    if found.len() > MAX_BYTES {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    let bytes = fs::read(path).map_err(cannot)?;
    String::from_utf8(bytes).map_err(|_| "is no text".to_owned())
}

/// The first line with text between `BEGIN {label}` and the next dashes.
fn block<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let begin = format!("BEGIN {label}");
    let mut lines =
        text.lines().map(str::trim).skip_while(|line| !(line.starts_with("---") && line.contains(&begin)));
    lines.next()?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
}

fn user_seed(text: &str) -> Result<Secret, String> {
    let (kind, _) = nkeys::decode_seed(text).map_err(no_seed)?;
    match KeyPairType::from(kind) {
        KeyPairType::User => Ok(Secret::new(text.to_owned())),
        _ => Err("holds a seed that is not a user's (those begin with `SU`)".to_owned()),
    }
}

fn key_pair(seed: &Secret) -> Result<KeyPair, String> {
    KeyPair::from_seed(seed.reveal()).map_err(no_seed)
}

/// What the library says may quote the seed.
fn no_seed(_: nkeys::error::Error) -> String {
    "holds no nkey seed (text that begins with `SU`)".to_owned()
}

fn pem_reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section's first line is broken",
        pem::Error::Base64Decode(_) => "what stands between the lines with dashes is no base64",
        _ => "it is broken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, text).expect("write");
        (directory, path)
    }

    fn seed() -> String {
        KeyPair::new_user().seed().expect("a seed")
    }

    #[test]
    fn a_seed_file_may_have_comments_and_signs_as_its_public_key_says() {
        let pair = KeyPair::new_user();
        let (_keep, path) = file(&format!("# of the gateway\n\n  {}\n", pair.seed().expect("a seed")));
        let seed = read_seed(&path).expect("a seed");
        assert_eq!(public_key(&seed).expect("a key"), pair.public_key());
        let signature = sign(&seed, b"nonce").expect("a signature");
        pair.verify(b"nonce", &signature).expect("the same key");
        assert!(!format!("{seed:?}").contains(seed.reveal()));
    }

    #[test]
    fn creds_are_read_however_their_lines_end() {
        let seed = seed();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n***\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        for text in [text.clone(), text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
            let (_keep, path) = file(&text);
            let creds = read_creds(&path).expect("creds");
            assert_eq!((creds.jwt.reveal(), creds.seed.reveal()), ("a.b.c", seed.as_str()));
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_content() {
        let seed = seed();
        let account = KeyPair::new_account().seed().expect("a seed");
        let jwt = "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n";
        for (text, why) in [
            ("", "no nkey seed"),
            (&seed[..40], "no nkey seed"),
            (&account, "not a user's"),
            (jwt, "`.creds` file"),
        ] {
            let (_keep, path) = file(text);
            let said = read_seed(&path).expect_err(text);
            assert!(said.contains(why) && (text.is_empty() || !said.contains(text)), "{said}");
        }
        let broken = format!("{jwt}-----BEGIN USER NKEY SEED-----\nSUxxxx\n------END USER NKEY SEED------\n");
        for (text, why) in
            [("hello", "no user JWT"), (jwt, "no user seed"), (broken.as_str(), "no nkey seed")]
        {
            let (_keep, path) = file(text);
            let said = read_creds(&path).expect_err(text);
            assert!(said.contains(why), "{said}");
        }
        let (_keep, path) = file("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
        assert!(read_certificates(&path).expect_err("no base64").contains("base64"));
        let (_keep, path) = file("hello");
        assert!(read_certificates(&path).expect_err("no PEM").contains("no certificate"));
        assert!(read_key(&path).expect_err("no PEM").contains("no private key"));
        let (_keep, path) =
            file("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n");
        assert!(read_key(&path).expect_err("encrypted").contains("encrypted"));
        assert!(read_key(Path::new("/nowhere/key.pem")).expect_err("missing").contains("cannot be read"));
    }
}
