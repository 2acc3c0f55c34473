//! Who the gateway is to a broker, and how it knows the broker.
//!
//! Every file is read here once, so that a missing or broken one is told with its place before anything runs; the
//! plan keeps the paths, because the gateway reads them again at each connect.

use percent_encoding::percent_decode_str;

use super::{client_tls, located::secret_file};
use crate::{
    credentials,
    kinds::{EnvText, FlagOr},
    plan::{Broker, BrokerAuth, ClientTls, Secret},
    raw,
    report::Report,
    source::Place,
};

const ONE_WAY: &str = "either `user` and `password`, or a `token`, or an `nkey`, or `creds`";

/// The user that an address names.
pub(super) struct UrlUser {
    place: Place,
    auth: BrokerAuth,
}

impl UrlUser {
    /// `user:password`, or a token; both percent-encoded.
    pub(super) fn read(text: &str, place: Place, report: &mut Report<'_>) -> Option<UrlUser> {
        let decoded = |part: &str| percent_decode_str(part).decode_utf8().ok().map(|part| part.into_owned());
        let auth = match text.split_once(':') {
            Some((user, password)) => decoded(user)
                .zip(decoded(password))
                .map(|(user, password)| BrokerAuth::Password { user, password: Secret::new(password) }),
            None => decoded(text).map(|token| BrokerAuth::Token(Secret::new(token))),
        };
        if auth.is_none() {
            report.error(place, "the user in this address is not UTF-8");
        }
        Some(UrlUser { place, auth: auth? })
    }
}

/// Who the gateway is: as `auth` says, or as all addresses say.
pub(super) fn auth(
    written: Option<&raw::Auth>,
    in_urls: &[UrlUser],
    report: &mut Report<'_>,
) -> Option<BrokerAuth> {
    let Some(written) = written else {
        let Some(first) = in_urls.first() else { return Some(BrokerAuth::Anonymous) };
        if let Some(other) = in_urls.iter().find(|other| other.auth != first.auth) {
            report.error_help(
                other.place,
                "the addresses of one connection name different users",
                "write the user once, as `auth`",
            );
            return None;
        }
        return Some(first.auth.clone());
    };
    if let Some(user) = in_urls.first() {
        report.error(user.place, "either a user in the address or `auth`, not both");
    }
    let password = written.has("user") || written.has("password");
    let ways = [password, written.has("token"), written.has("nkey"), written.has("creds")];
    if ways.iter().filter(|way| **way).count() > 1 {
        let values = [&written.token, &written.nkey, &written.creds];
        let last = values.into_iter().flatten().next_back();
        report.error(last.map_or(written.place, |last| last.0.place), ONE_WAY);
        return None;
    }
    let secret = |text: &EnvText| Secret::new(text.0.value.clone());
    match ways {
        [true, ..] => match (&written.user, &written.password) {
            (Some(user), Some(password)) => {
                Some(BrokerAuth::Password { user: user.0.value.clone(), password: secret(password) })
            }
            _ if written.has("user") && written.has("password") => None,
            _ => {
                report.error(written.place, "`user` and `password` belong together");
                None
            }
        },
        [_, true, ..] => written.token.as_ref().map(|token| BrokerAuth::Token(secret(token))),
        [_, _, true, _] => {
            let path = secret_file(&written.nkey.as_ref()?.0, credentials::read_seed, report)?;
            Some(BrokerAuth::Nkey(path))
        }
        [_, _, _, true] => {
            let path = secret_file(&written.creds.as_ref()?.0, credentials::read_creds, report)?;
            Some(BrokerAuth::Creds(path))
        }
        _ => {
            report.error(written.place, format!("`auth` says nothing: it has {ONE_WAY}"));
            None
        }
    }
}

/// How TLS is spoken. The inner `None`: only where the server asks for it.
pub(super) fn tls(
    written: &raw::Messaging,
    broker: Option<&Broker>,
    report: &mut Report<'_>,
) -> Option<Option<ClientTls>> {
    let in_urls = match broker {
        Some(Broker::Servers(servers)) => servers.iter().any(|server| server.starts_with("tls://")),
        Some(Broker::Embedded) | None => false,
    };
    let tls = match &written.tls {
        None if written.has("tls") => return None,
        None => in_urls.then(ClientTls::default),
        Some(FlagOr::Flag(flag)) => (flag.value || in_urls).then(ClientTls::default),
        Some(FlagOr::Section(section)) => {
            let on = section.enabled.as_ref().is_none_or(|enabled| enabled.value);
            let section = section_of(section, report)?;
            (on || in_urls).then_some(section)
        }
    };
    if tls.is_some() && broker == Some(&Broker::Embedded) {
        report.error(written.place, "the embedded server speaks no TLS: it listens on loopback only");
        return None;
    }
    Some(tls)
}

pub(super) fn section_of(written: &raw::BrokerTls, report: &mut Report<'_>) -> Option<ClientTls> {
    let text = |written: &'_ Option<EnvText>| written.as_ref().map(|text| text.0.clone());
    let [ca_file, cert, key, hostname] =
        [&written.ca_file, &written.cert, &written.key, &written.hostname].map(text);
    let read = [("ca_file", &ca_file), ("cert", &cert), ("key", &key), ("hostname", &hostname)];
    if read.into_iter().any(|(key, text)| written.has(key) && text.is_none()) {
        return None;
    }
    client_tls::settings(ca_file.as_ref(), cert.as_ref(), key.as_ref(), hostname.as_ref(), report)
}
