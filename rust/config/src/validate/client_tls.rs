//! How the gateway speaks TLS where it is the client: to brokers and to upstreams.

use super::located::{readable, secret_file};
use crate::{credentials, kinds::Text, plan::ClientTls, report::Report};

/// The settings, all files read once. `None`: something is wrong with them, and reported.
pub(super) fn settings(
    ca_file: Option<&Text>,
    cert: Option<&Text>,
    key: Option<&Text>,
    hostname: Option<&Text>,
    report: &mut Report<'_>,
) -> Option<ClientTls> {
    let ca_file = match ca_file {
        Some(text) => Some(readable(text, credentials::read_certificates, report)?),
        None => None,
    };
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => {
            let cert_file = readable(cert, credentials::read_certificates, report);
            let key_file = secret_file(key, credentials::read_key, report);
            let (cert_file, key_file) = (cert_file?, key_file?);
            if let Err(why) = credentials::check_pair(&cert_file, &key_file) {
                report.error(key.place, why);
                return None;
            }
            Some((cert_file, key_file))
        }
        (Some(one), None) | (None, Some(one)) => {
            report.error(one.place, "`cert` and `key` belong together");
            return None;
        }
        (None, None) => None,
    };
    if let Some(name) = hostname
        && rustls_pki_types::ServerName::try_from(name.value.as_str()).is_err()
    {
        report.error(name.place, format!("`{}` is no host's name", name.value));
    }
    Some(ClientTls { ca_file, identity, hostname: hostname.map(|name| name.value.clone()) })
}
