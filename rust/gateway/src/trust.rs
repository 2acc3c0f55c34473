//! Whom the gateway believes where it is a client (the authorities of a file, or else those of the system), and who it is
//! itself.

use nylon_config::credentials;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use std::path::{Path, PathBuf};

/// The authorities in `ca_file`, or the system's. `key` is what the configuration calls the file.
///
/// # Errors
/// Which file is broken and how, or that the system trusts nobody.
pub(crate) fn trusted(ca_file: Option<&Path>, key: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in credentials::read_certificates(path).map_err(of_file(path))? {
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

/// A client with the certificate and the key in these files, or with none.
///
/// # Errors
/// Which file is broken and how, or that they do not go together.
pub(crate) fn with_identity(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Result<ClientConfig, String> {
    let Some((cert, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = credentials::read_certificates(cert).map_err(of_file(cert))?;
    let secret = credentials::read_key(key).map_err(of_file(key))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|why| format!("`{}` and `{}` do not go together: {why}", cert.display(), key.display()))
}

/// A reason with the file that it is about.
pub(crate) fn of_file(path: &Path) -> impl FnOnce(String) -> String {
    move |why| format!("the file `{}` {why}", path.display())
}
