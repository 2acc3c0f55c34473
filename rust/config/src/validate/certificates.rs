//! Certificates towards clients.
//!
//! Every file is read here once, so that one that is broken or does not fit is told with its place; the plan keeps the
//! paths, because the gateway reads the files again when they change.

use std::time::SystemTime;

use super::{
    acme::{Ground, acme},
    located::{readable, secret_file},
    services::is_host_name,
};
use crate::{
    certificates, credentials,
    kinds::{FlagOrText, OneOrMany, Text},
    plan::{Certificate, CertificateFiles, CertificateSource, HttpsTarget, PlainRequests},
    raw,
    report::Report,
    source::Place,
};

pub(super) fn certificates(
    written: &[raw::Certificate],
    ground: &Ground<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Certificate>> {
    let mut taken: Vec<(String, Place)> = Vec::new();
    let all: Vec<_> = written.iter().map(|one| certificate(one, ground, &mut taken, report)).collect();
    all.into_iter().collect()
}

fn certificate(
    written: &raw::Certificate,
    ground: &Ground<'_>,
    taken: &mut Vec<(String, Place)>,
    report: &mut Report<'_>,
) -> Option<Certificate> {
    let from_files = written.has("cert") || written.has("key") || written.has("chain");
    let kind = match &written.kind {
        Some(kind) => kind.value,
        None if written.has("type") => return None,
        None if from_files => raw::CertificateType::Custom,
        None => raw::CertificateType::Acme,
    };
    let named = domains(written.domains.as_ref()?, taken, report);
    let source = match kind {
        raw::CertificateType::Custom => {
            let files = files(written, report)?;
            check(written, &files, &named, report)?;
            CertificateSource::Custom(files)
        }
        raw::CertificateType::Acme => {
            if from_files {
                report.warn(written.place, "`cert`, `key` and `chain` have no effect where `type` is `acme`");
            }
            CertificateSource::Acme(acme(written, &named, ground, report)?)
        }
    };
    Some(Certificate {
        domains: named.into_iter().map(|(name, _)| name).collect(),
        source,
        location: report.sources.location(written.place),
    })
}

/// The names, each with its place.
fn domains(
    written: &[Text],
    taken: &mut Vec<(String, Place)>,
    report: &mut Report<'_>,
) -> Vec<(String, Place)> {
    let mut named = Vec::new();
    for text in written {
        let name = text.value.to_ascii_lowercase();
        if name.parse::<std::net::IpAddr>().is_ok() {
            report.warn(
                text.place,
                format!("clients ask for no certificate by address: `{name}` gets the first certificate"),
            );
        } else if !is_host_name(name.strip_prefix("*.").unwrap_or(&name)) {
            report.error_help(
                text.place,
                format!("`{}` is no domain", text.value),
                "write a name such as `a.example.com`, or `*.example.com`",
            );
        } else if let Some((_, first)) = taken.iter().find(|(known, _)| *known == name) {
            let first = report.at(*first);
            report.error(text.place, format!("the domain `{name}` has a certificate already, see {first}"));
        } else {
            taken.push((name.clone(), text.place));
            named.push((name, text.place));
        }
    }
    named
}

fn files(written: &raw::Certificate, report: &mut Report<'_>) -> Option<CertificateFiles> {
    for key in ["cert", "key"] {
        if !written.has(key) {
            report.error(written.place, format!("a certificate from files needs the key `{key}`"));
        }
    }
    let mut certificates = |text: &Text| readable(text, credentials::read_certificates, report);
    let cert = written.cert.as_ref().and_then(&mut certificates);
    let chain = written.chain.as_ref().map(|OneOrMany(chain)| chain.iter().map(certificates).collect());
    let key = written.key.as_ref().and_then(|key| secret_file(key, credentials::read_key, report));
    let chain = match chain {
        Some(chain) => chain,
        None if written.has("chain") => None,
        None => Some(Vec::new()),
    };
    Some(CertificateFiles { cert: cert?, key: key?, chain: chain? })
}

/// Whether the files fit together, and clients will take them for these names.
fn check(
    written: &raw::Certificate,
    files: &CertificateFiles,
    named: &[(String, Place)],
    report: &mut Report<'_>,
) -> Option<()> {
    let place = |text: &Option<Text>| text.as_ref().map_or(written.place, |text| text.place);
    let about = match certificates::load(files) {
        Ok(loaded) => loaded.about,
        Err(why) => {
            let to_blame = if why.file == files.key { &written.key } else { &written.cert };
            report.error(place(to_blame), why.to_string());
            return None;
        }
    };
    if let Some(problem) = about.problem(SystemTime::now()) {
        report.warn(place(&written.cert), format!("the certificate {problem}: clients will refuse it"));
    }
    for (name, place) in named.iter().filter(|(name, _)| !about.covers(name)) {
        let names = match about.names.len() {
            0 => "it has no names at all".to_owned(),
            _ => format!("it is for {}", about.names.join(", ")),
        };
        report.warn(
            *place,
            format!("the certificate does not cover `{name}`, clients will refuse it: {names}"),
        );
    }
    Some(())
}

/// What becomes of a route's plain requests. The outer `None`: something is wrong, and reported.
pub(super) fn plain_requests(
    written: Option<&raw::RouteTls>,
    reachable: bool,
    report: &mut Report<'_>,
) -> Option<Option<PlainRequests>> {
    let Some(written) = written else { return Some(None) };
    if written.enabled.as_ref().is_some_and(|enabled| !enabled.value) {
        return Some(None);
    }
    if !reachable {
        report.warn(
            written.place,
            "nobody can come over TLS: there is neither an `https` address nor one of a trusted proxy",
        );
    }
    let target = match &written.redirect {
        None if written.has("redirect") => return None,
        None => return Some(Some(PlainRequests::Refused)),
        Some(FlagOrText::Flag(flag)) if !flag.value => return Some(Some(PlainRequests::Refused)),
        Some(FlagOrText::Flag(_)) => HttpsTarget { authority: vec![String::new(); 2], path: None },
        Some(FlagOrText::Text(text)) => https_target(text, report)?,
    };
    Some(Some(PlainRequests::Redirected(target)))
}

/// `${host}` in a redirect: the host of the request.
const HOST: &str = "${host}";

fn https_target(text: &Text, report: &mut Report<'_>) -> Option<HttpsTarget> {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.value.strip_prefix(scheme));
    let rest = rest.unwrap_or(&text.value);
    let (authority, path) = match rest.find('/') {
        // A lone slash is how some write no path.
        Some(at) => (&rest[..at], Some(&rest[at..]).filter(|path| *path != "/")),
        None => (rest, None),
    };
    // Any host at all shows whether it can stand there.
    let authority_is_valid =
        http::uri::Authority::try_from(authority.replace(HOST, "a")).is_ok_and(|authority| {
            // A user would stand before the host, and what is no port behind it.
            let rest = authority.as_str().strip_prefix(authority.host());
            !authority.host().is_empty()
                && rest.is_some_and(|rest| rest.is_empty() || authority.port_u16().is_some())
        });
    let path_is_valid = path.is_none_or(|path| http::uri::PathAndQuery::try_from(path).is_ok());
    if !authority_is_valid || !path_is_valid {
        report.error_help(
            text.place,
            "this is no host to redirect to",
            "write `true` for the host of the request, or a host such as `example.com`, `${host}:8443` or `https://example.com`",
        );
        return None;
    }
    let authority = authority.split(HOST).map(str::to_owned).collect();
    Some(HttpsTarget { authority, path: path.map(str::to_owned) })
}
