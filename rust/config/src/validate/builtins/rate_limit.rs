//! The payload of `RateLimit`.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::super::{access, millis, size};
use super::Brokers;
use crate::{
    kinds::{EnvText, FlagOr, Text},
    plan::{ClientTls, LimitHeaders, LimitStore, OnStoreError, RateLimit, Redis, Secret},
    raw,
    report::Report,
};

/// The longest time in which an empty bucket may fill: a store keeps each bucket for as long.
const MAX_WINDOW: Duration = Duration::from_secs(31 * 86_400);

pub(super) fn rate_limit(
    written: &raw::RateLimit,
    brokers: &Brokers<'_>,
    report: &mut Report<'_>,
) -> Option<RateLimit> {
    let store = store(written, brokers, report);
    let rate = written.rate?;
    let burst = match written.burst {
        Some(burst) => burst.value,
        None if written.has("burst") => return None,
        None => rate.count,
    };
    let period = Duration::from_secs(rate.period);
    if period.as_secs_f64() / rate.count as f64 * burst as f64 > MAX_WINDOW.as_secs_f64() {
        report.error(rate.place, "with this `burst`, an empty bucket needs more than 31 days to fill");
    }
    if written.key.is_none() && written.has("key") {
        return None;
    }
    if let Some(key) = &written.key
        && key.value.is_constant()
    {
        report.warn(key.place, "this `key` is the same for every request: all clients share one bucket");
    }
    if let Some(name) = &written.name
        && name.value.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\\'))
    {
        report
            .error(name.place, "a limit's name is ASCII text without spaces and quotes: clients are told it");
        return None;
    }
    let name = written.name.as_ref().map(|name| name.value.clone());
    Some(RateLimit {
        name: name.clone().unwrap_or_else(|| report.at(written.place)),
        shown_name: name.unwrap_or_else(|| "default".to_owned()),
        count: rate.count,
        period,
        burst,
        key: written.key.as_ref().map(|key| key.value.clone()),
        max_keys: size(written.max_keys?),
        headers: match written.headers.as_ref().map(|headers| headers.value) {
            None | Some(raw::LimitHeaders::Refused) => LimitHeaders::Refused,
            Some(raw::LimitHeaders::Always) => LimitHeaders::Always,
            Some(raw::LimitHeaders::Never) => LimitHeaders::Never,
        },
        store: store?,
        store_timeout: millis(written.store_timeout_ms?),
        on_store_error: match written.on_store_error.as_ref().map(|choice| choice.value) {
            None | Some(raw::OnStoreError::Fail) => OnStoreError::Fail,
            Some(raw::OnStoreError::Local) => OnStoreError::Local,
            Some(raw::OnStoreError::Allow) => OnStoreError::Allow,
        },
    })
}

fn store(written: &raw::RateLimit, brokers: &Brokers<'_>, report: &mut Report<'_>) -> Option<LimitStore> {
    let store = match &written.store {
        Some(store) => store.value,
        None if written.has("store") => return None,
        None => raw::LimitStore::Local,
    };
    let word = match store {
        raw::LimitStore::Local => "local",
        raw::LimitStore::Redis => "redis",
        raw::LimitStore::Nats => "nats",
    };
    for key in ["redis", "nats"] {
        if written.has(key) && key != word {
            report.error(
                written.place,
                format!("`{key}` belongs to `store: {key}`, and the store is `{word}`"),
            );
        }
    }
    if store != raw::LimitStore::Local && !written.has("name") {
        report.error_help(
            written.place,
            format!("with `store: {word}` a limit needs a `name`"),
            "all gateways that count together write the same one",
        );
    }
    match store {
        raw::LimitStore::Local => Some(LimitStore::Local),
        raw::LimitStore::Redis => match &written.redis {
            Some(section) => redis(section, report).map(LimitStore::Redis),
            None => {
                if !written.has("redis") {
                    report.error(written.place, "`store: redis` needs `redis` with its address");
                }
                None
            }
        },
        raw::LimitStore::Nats => {
            let Some(section) = &written.nats else {
                if !written.has("nats") {
                    report.error(written.place, "`store: nats` needs `nats` with a `messaging` connection");
                }
                return None;
            };
            let name = section.messaging.as_ref()?;
            let messaging = brokers.names.find(name, report)?;
            let embedded = &brokers.written[messaging].embedded;
            if embedded.as_ref().is_some_and(|embedded| embedded.value) {
                report.error_help(
                    name.place,
                    format!("`{}` is a server of this gateway's own, without JetStream", name.value),
                    "name a connection with `servers` that other gateways use too, or write `store: local`",
                );
                return None;
            }
            Some(LimitStore::Nats { messaging, replicas: size(section.replicas?) })
        }
    }
}

/// The parts of `redis://user:password@host:port/db`.
struct Url {
    host: String,
    port: Option<u16>,
    user: Option<String>,
    password: Option<Secret>,
    db: Option<u32>,
    tls: bool,
}

/// A Redis server: by its `url`, or by the single keys.
fn redis(written: &raw::Redis, report: &mut Report<'_>) -> Option<Redis> {
    let unread = |key: &str, value: bool| written.has(key) && !value;
    let url = match &written.url {
        Some(EnvText(text)) => {
            for key in ["host", "port", "user", "password", "db"] {
                if written.has(key) {
                    report.error(text.place, format!("either a `url` or a `{key}`, not both"));
                }
            }
            url(text, report)?
        }
        None if written.has("url") => return None,
        None => {
            let values = [
                ("user", written.user.is_some()),
                ("password", written.password.is_some()),
                ("db", written.db.is_some()),
            ];
            if values.into_iter().any(|(key, value)| unread(key, value)) {
                return None;
            }
            let text = |text: &EnvText| text.0.value.clone();
            let Some(host) = &written.host else {
                if !written.has("host") {
                    report.error(written.place, "`redis` needs a `host` or a `url`");
                }
                return None;
            };
            Url {
                host: text(host),
                port: written.port.and_then(|port| u16::try_from(port.value).ok()),
                user: written.user.as_ref().map(text),
                password: written.password.as_ref().map(|password| Secret::new(text(password))),
                db: written.db.and_then(|db| u32::try_from(db.value).ok()),
                tls: false,
            }
        }
    };
    if url.user.is_some() && url.password.is_none() {
        report.error(written.place, "a `user` of Redis needs a `password`");
    }
    let tls = match &written.tls {
        None if written.has("tls") => return None,
        None => url.tls.then(ClientTls::default),
        Some(FlagOr::Flag(flag)) => (flag.value || url.tls).then(ClientTls::default),
        Some(FlagOr::Section(section)) => {
            let on = section.enabled.as_ref().is_none_or(|enabled| enabled.value);
            let section = access::section_of(section, report)?;
            (on || url.tls).then_some(section)
        }
    };
    Some(Redis {
        host: url.host,
        port: url.port.unwrap_or(6379),
        user: url.user,
        password: url.password,
        db: url.db.unwrap_or(0),
        key_prefix: written.key_prefix.as_ref().map_or("nylon", |prefix| &prefix.value).to_owned(),
        tls,
    })
}

fn url(text: &Text, report: &mut Report<'_>) -> Option<Url> {
    let read = parsed(&text.value);
    if read.is_none() {
        // It may hold a password: the place shows where it stands, the reason stays clean.
        let help = "write `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS";
        report.error_help(text.place, "this is no address of a Redis server", help);
    }
    read
}

fn parsed(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let (rest, db) = match rest.split_once('/') {
        Some((rest, "")) => (rest, None),
        Some((rest, db)) => (rest, Some(db.parse().ok().filter(|db| *db <= 65_535)?)),
        None => (rest, None),
    };
    let (login, address) = match rest.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, rest),
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let (user, password) = match login.map(|login| login.split_once(':')) {
        None => (None, None),
        Some(Some((user, password))) => (Some(decoded(user)?), Some(decoded(password)?)),
        Some(None) => return None,
    };
    let authority: http::uri::Authority = address.parse().ok()?;
    let host = authority.host().trim_matches(['[', ']']);
    let port = address.strip_prefix(authority.host())?;
    if host.is_empty() || !(port.is_empty() || authority.port_u16().is_some_and(|port| port > 0)) {
        return None;
    }
    Some(Url {
        host: host.to_owned(),
        port: authority.port_u16(),
        user: user.filter(|user| !user.is_empty()),
        password: password.map(Secret::new),
        db,
        tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_of_redis_has_all_its_parts() {
        let url = parsed("rediss://us%40er:p%3Aw@redis.example:7000/3").expect("an address");
        assert_eq!(
            (url.host.as_str(), url.port, url.db, url.tls),
            ("redis.example", Some(7000), Some(3), true)
        );
        assert_eq!(url.user.as_deref(), Some("us@er"));
        assert_eq!(url.password.expect("a password").reveal(), "p:w");
        let url = parsed("redis://:pw@[::1]").expect("an address");
        assert_eq!((url.host.as_str(), url.port, url.user), ("::1", None, None));
        for wrong in [
            "",
            "redis",
            "redis://",
            "http://a",
            "redis://a:0",
            "redis://a:x",
            "redis://a/x",
            "redis://a/70000",
            "redis://u@a",
        ] {
            assert!(parsed(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_an_address_or_none(text in "(rediss?://)?[a-z0-9:@/%\\[\\]é.]{0,40}") {
            let _ = parsed(&text);
        }
    }
}
