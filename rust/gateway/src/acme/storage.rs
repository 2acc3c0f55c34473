//! The directory where accounts and certificates are kept.
//!
//! Every authority has a directory of its own in it, with mode 0700, and every file has mode 0600. A file is written
//! beside its place and renamed into it, so there is always a whole one, and only by whoever has its lock: several
//! Nylon processes may share a directory, and what one of them has obtained the others find there.

use super::Wanted;
use nylon_config::plan::Acme;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who may read and write what is kept: its owner.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Characters of a domain or a host in the name of a file: what is too long for a file system is told apart by its hash.
const READABLE: usize = 100;

/// What went wrong with a file, and with which.
#[derive(Debug, thiserror::Error)]
#[error("{what} `{}`: {error}", path.display())]
pub struct StorageError {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    directory: PathBuf,
    name: String,
}

/// The right to write a file. Dropping it gives the right back.
pub(super) struct Lock(
    #[expect(dead_code, reason = "the system lets the lock go when the file is closed")] File,
);

/// The file of an account. Another address, or another external account, is another account.
pub(super) fn account(wanted: &Wanted) -> Kept {
    let acme = &wanted.acme;
    let key_id = acme.external_account.as_ref().map(|external| external.key_id.as_str());
    let hash = hash(&[acme.email.as_deref().unwrap_or_default(), key_id.unwrap_or_default()]);
    Kept { directory: authority_directory(acme), name: format!("account-{hash}.json") }
}

/// The file of a certificate with its key. Other domains are another certificate; their order is none.
pub(super) fn certificate(wanted: &Wanted) -> Kept {
    let mut domains: Vec<&str> = wanted.domains.iter().map(String::as_str).collect();
    domains.sort_unstable();
    let name = format!("{}-{}.pem", readable(&wanted.domains[0]), hash(&domains));
    Kept { directory: authority_directory(&wanted.acme), name }
}

/// Another URL is another authority, so what is for tests never gets into the place of what is not.
fn authority_directory(acme: &Acme) -> PathBuf {
    let url = acme.authority.directory_url.as_str();
    let host = url.strip_prefix("https://").unwrap_or(url).split(['/', ':', '?']).next().unwrap_or_default();
    acme.storage.join(format!("{}-{}", readable(host), hash(&[url])))
}

/// As much of a name as a file's name can have.
fn readable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    let text: String = name.chars().take(READABLE).map(plain).collect();
    match text.starts_with('.') {
        true => format!("_{text}"),
        false => text,
    }
}

/// Tells texts apart: 64 bits in hexadecimal.
fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // into a text: never fails
        text
    })
}

impl Kept {
    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Makes the directory, so that what is wrong with it shows before anything is obtained.
    pub(super) fn prepare(&self) -> Result<(), StorageError> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.directory)
            .map_err(|error| failed("cannot make the directory", &self.directory, error))
    }

    /// What is in it; `None`: there is none.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.path();
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot read", &path, error)),
        }
    }

    /// The right to write it; `None`: somebody else has it, this process or another.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>, StorageError> {
        let path = self.directory.join(format!(".{}.lock", self.name));
        let cannot = |error| failed("cannot lock", &path, error);
        self.prepare()?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(cannot(error)),
        }
    }

    /// Puts `bytes` into its place, in one step that survives a crash of the machine.
    pub(super) fn write(&self, bytes: &[u8], _: &Lock) -> Result<(), StorageError> {
        let (fresh, path) = (self.directory.join(format!(".{}.new", self.name)), self.path());
        // One that a crash has left there would keep its mode.
        if let Err(error) = fs::remove_file(&fresh)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed("cannot remove", &fresh, error));
        }
        let written = || {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        written().map_err(|error| failed("cannot write", &fresh, error))?;
        let moved = || {
            fs::rename(&fresh, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        moved().map_err(|error| failed("cannot write", &path, error))
    }

    /// Removes it, if it is there.
    pub(super) fn remove(&self, _: &Lock) -> Result<(), StorageError> {
        let path = self.path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("cannot remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> StorageError {
    StorageError { what, path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nylon_config::plan::{Authority, Challenge, ExternalAccount, Secret};
    use std::os::unix::fs::PermissionsExt;

    fn wanted(root: &Path, url: &str, domains: &[&str]) -> Wanted {
        let acme = Acme {
            storage: root.to_owned(),
            authority: Authority { directory_url: url.to_owned(), ca_file: None },
            email: None,
            external_account: None,
            challenge: Challenge::Http01,
        };
        Wanted { domains: domains.iter().map(ToString::to_string).collect(), acme }
    }

    fn kept(root: &Path, url: &str, domains: &[&str]) -> Kept {
        certificate(&wanted(root, url, domains))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn other_domains_and_other_urls_are_other_files() {
        let root = Path::new("/acme");
        let one = kept(root, "https://ca.example/a", &["a.example", "b.example"]);
        assert_eq!(one, kept(root, "https://ca.example/a", &["a.example", "b.example"]));
        for (url, domains) in [
            ("https://ca.example/b", &["a.example", "b.example"][..]),
            ("https://ca.example/a", &["a.example"]),
            ("https://ca.example/a", &["a.example", "c.example"]),
        ] {
            assert_ne!(one.path(), kept(root, url, domains).path());
        }
        let account = |url, email: Option<&str>, key_id: Option<&str>| {
            let mut wanted = wanted(root, url, &["a.example"]);
            wanted.acme.email = email.map(str::to_owned);
            let secret = || Secret::new("a2V5".to_owned());
            wanted.acme.external_account =
                key_id.map(|key_id| ExternalAccount { key_id: key_id.to_owned(), hmac_key: secret() });
            super::account(&wanted)
        };
        let accounts = [
            account("https://ca.example/a", None, None),
            account("https://ca.example/b", None, None),
            account("https://ca.example/a", Some("a@b.example"), None),
            account("https://ca.example/a", None, Some("a@b.example")),
        ];
        for (at, account) in accounts.iter().enumerate() {
            assert!(accounts[..at].iter().all(|other| other != account), "{account:?}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let root = Path::new("/acme");
        for url in ["https://../x", "https://a/../../x", "https://..", "https:///etc/passwd"] {
            let path = kept(root, url, &["../../etc/passwd"]).path();
            let parts: Vec<_> = path.strip_prefix(root).expect("inside").components().collect();
            assert_eq!(parts.len(), 2, "{}", path.display());
            assert!(parts.iter().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }

    #[test]
    fn what_is_written_is_for_its_owner_alone_and_replaced_whole() {
        let root = tempfile::tempdir().expect("a directory");
        let kept = kept(root.path(), "https://ca.example/a", &["a.example"]);
        assert!(kept.read().expect("readable").is_none());
        let lock = kept.try_lock().expect("a lock").expect("nobody else has it");
        let fresh = kept.directory.join(format!(".{}.new", kept.name));
        for text in ["first", "second and longer", "third"] {
            fs::write(&fresh, "what a crash left, with a mode of its own").expect("written");
            kept.write(text.as_bytes(), &lock).expect("written");
            assert_eq!(kept.read().expect("readable").as_deref(), Some(text.as_bytes()));
            assert_eq!((mode(&kept.path()), mode(&kept.directory)), (0o600, 0o700));
            assert!(!fresh.exists());
        }
        kept.remove(&lock).expect("removed");
        assert!(kept.read().expect("readable").is_none());
    }

    #[test]
    fn one_at_a_time_may_write() {
        let root = tempfile::tempdir().expect("a directory");
        let kept = kept(root.path(), "https://ca.example/a", &["a.example"]);
        let lock = kept.try_lock().expect("a lock");
        assert!(lock.is_some());
        assert!(kept.try_lock().expect("no error").is_none());
        drop(lock);
        assert!(kept.try_lock().expect("a lock").is_some());
    }
}
