//! A directory with certificates that sign themselves.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair};

/// The directory. Only their owner can read its files.
pub(crate) struct CertificateFiles(tempfile::TempDir);

impl CertificateFiles {
    pub(crate) fn new() -> CertificateFiles {
        CertificateFiles(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A certificate in `<name>.pem` and `<name>-key.pem`, changed by `change` before it is signed.
    pub(crate) fn issue(&self, name: &str, domains: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let domains: Vec<String> = domains.iter().map(|domain| (*domain).to_owned()).collect();
        let mut params = CertificateParams::new(domains).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        self.write(&format!("{name}.pem"), &params.self_signed(&key).expect("a certificate").pem());
        self.write(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("kept to the owner");
        }
    }
}
