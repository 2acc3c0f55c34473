//! Certificates that a plan names, as they are in their files now.

use nylon_config::certificates::{self, ServerCertificate};
use nylon_config::plan::{CertificateFiles, CertificateSource};
use nylon_config::{Diagnostic, Plan};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// All certificates of a plan, in its order.
pub(crate) type Certificates = Vec<Named>;

/// A certificate and the names that it is for.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) domains: Vec<String>,
    /// Where it is from files.
    pub(crate) from: Option<FromFiles>,
}

/// A certificate and its files.
#[derive(Clone)]
pub(crate) struct FromFiles {
    pub(super) files: CertificateFiles,
    pub(super) certified: Arc<CertifiedKey>,
}

impl Named {
    pub(crate) fn certified(&self) -> Option<&Arc<CertifiedKey>> {
        self.from.as_ref().map(|from| &from.certified)
    }
}

/// Reads all certificates of a plan that are in files.
///
/// # Errors
/// Those that cannot be served.
pub(crate) fn read(plan: &Plan) -> Result<Certificates, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for certificate in &plan.certificates {
        let CertificateSource::Custom(files) = &certificate.source else {
            all.push(Named { domains: certificate.domains.clone(), from: None });
            continue;
        };
        match certificates::load(files) {
            Ok(ServerCertificate { certified, .. }) => {
                let from = Some(FromFiles { files: files.clone(), certified });
                all.push(Named { domains: certificate.domains.clone(), from });
            }
            Err(why) => wrong.push(certificate.location.diagnostic(why.to_string())),
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(wrong) }
}
