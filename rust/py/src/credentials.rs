//! A worker's proof of who it is, signed by the code that signs for the gateway: one reader of seeds and `.creds`
//! files on both sides, and no further Python package for ed25519.

use crate::errors::ErrorClass;
use nylon_config::credentials::{public_key, read_creds, read_seed, sign};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

fn error(py: Python<'_>, path: &std::path::Path, why: &str) -> PyErr {
    ErrorClass::ConfigError.error(py, format!("the file {} {why}", path.display()))
}

/// The public key of the nkey seed in a file, and the seed's signature of `nonce`.
#[pyfunction]
pub(crate) fn sign_with_nkey<'py>(
    py: Python<'py>,
    path: PathBuf,
    nonce: &[u8],
) -> PyResult<(String, Bound<'py, PyBytes>)> {
    let signed = read_seed(&path).and_then(|seed| Ok((public_key(&seed)?, sign(&seed, nonce)?)));
    let (key, signature) = signed.map_err(|why| error(py, &path, &why))?;
    Ok((key, PyBytes::new(py, &signature)))
}

/// The JWT in a `.creds` file, and its seed's signature of `nonce`.
#[pyfunction]
pub(crate) fn sign_with_creds<'py>(
    py: Python<'py>,
    path: PathBuf,
    nonce: &[u8],
) -> PyResult<(String, Bound<'py, PyBytes>)> {
    let signed = read_creds(&path).and_then(|creds| {
        let signature = sign(&creds.seed, nonce)?;
        Ok((creds.jwt.reveal().to_owned(), signature))
    });
    let (jwt, signature) = signed.map_err(|why| error(py, &path, &why))?;
    Ok((jwt, PyBytes::new(py, &signature)))
}
