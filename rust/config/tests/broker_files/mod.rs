//! A directory with the files that `auth` and `tls` name. They are well formed; no peer would take them.

use std::{fs, path::Path};

/// The directory: `plugin.py`, `library.so`, and `broker/` with `ca.pem`, `cert.pem`, `key.pem`, `user.nk` and `user.creds`. Only
/// their owner can read them.
pub(crate) struct BrokerFiles(tempfile::TempDir);

impl BrokerFiles {
    pub(crate) fn new() -> BrokerFiles {
        let files = BrokerFiles(tempfile::tempdir().expect("a directory"));
        fs::create_dir(files.path().join("broker")).expect("a directory");
        let own = rcgen::generate_simple_self_signed(["nats.test".to_owned()]).expect("a certificate");
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        files.write("plugin.py", "");
        files.write("library.so", "");
        files.write("broker/ca.pem", &own.cert.pem());
        files.write("broker/cert.pem", &own.cert.pem());
        files.write("broker/key.pem", &own.signing_key.serialize_pem());
        files.write("broker/user.nk", &seed);
        files.write(
            "broker/user.creds",
            &format!(
                "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            ),
        );
        files
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).expect("write a file");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("keep it to the owner");
        }
    }
}
