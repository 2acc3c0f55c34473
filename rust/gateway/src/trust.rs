//! Whom the gateway believes where it is a client: the authorities of a file, or else those of the system.

use nylon_config::credentials;
use rustls::RootCertStore;
use std::path::Path;

/// The authorities in `ca_file`, or the system's. `key` is what the configuration calls the file.
///
/// # Errors
/// Which file is broken and how, or that the system trusts nobody.
pub(crate) fn trusted(ca_file: Option<&Path>, key: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let of_file = |why: String| format!("the file `{}` {why}", path.display());
            for certificate in credentials::read_certificates(path).map_err(of_file)? {
                roots.add(certificate).map_err(|why| format!("the file `{}`: {why}", path.display()))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            if roots.add_parsable_certificates(system.certs).0 == 0 {
                let why: Vec<_> = system.errors.iter().map(ToString::to_string).collect();
                return Err(format!("this system trusts no authority: set `{key}` {}", why.join("; ")));
            }
        }
    }
    Ok(roots)
}
