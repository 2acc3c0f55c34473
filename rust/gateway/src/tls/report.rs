//! How certificates stand, for people.

use super::CertStore;
use crate::acme::Obtaining;
use nylon_config::certificates::About;
use nylon_config::plan::Certificate;

/// A certificate of the configuration.
#[derive(Clone, Debug)]
pub struct CertificateReport {
    /// The names that it is for.
    pub domains: Vec<String>,
    /// Until when the certificate that is in use for the first of them is valid, in seconds since 1970. `None`: there is
    /// none yet.
    pub not_after: Option<i64>,
    /// Where it is obtained by ACME.
    pub obtaining: Option<Obtaining>,
}

impl CertificateReport {
    /// How `certificate` stands, given what is in use and what is obtained.
    pub(crate) fn of(certificate: &Certificate, store: &CertStore, obtaining: Option<Obtaining>) -> Self {
        let used = certificate.domains.first().and_then(|domain| store.in_use(domain));
        let about = used.and_then(|used| About::read(used.cert.first()?));
        CertificateReport {
            domains: certificate.domains.clone(),
            not_after: about.map(|about| about.not_after),
            obtaining,
        }
    }
}
