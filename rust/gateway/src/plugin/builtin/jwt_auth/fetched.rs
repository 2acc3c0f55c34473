//! A key set that is fetched from its issuer.
//!
//! One task per set fetches it: at the start, when the answer's `max-age` or the configuration says so, and when a token
//! names a key that the set does not have, which is how keys are rotated. Whoever sends such a token costs a fetch only
//! once in a while. What was fetched last goes on when the issuer cannot be reached or answers nonsense; while there is
//! nothing yet, nobody gets in.

use super::super::background::{Background, Task};
use super::token::Keys;
use crate::causes::with_causes;
use crate::plugin::remote::jittered;
use crate::trust::trusted;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use nylon_config::plan::FetchedKeys;
use nylon_config::token_keys;
use rustls::ClientConfig;
use rustls::crypto::ring;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The first pause after a fetch that failed; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// A key set, as it was fetched last.
pub(super) struct FetchedSet {
    settings: FetchedKeys,
    keys: ArcSwapOption<Keys>,
    /// Somebody wants a newer set.
    wanted: Notify,
    fetches: watch::Sender<Fetches>,
    task: OnceLock<Task>,
}

/// How far the task is.
#[derive(Clone, Copy)]
struct Fetches {
    /// Those that came to an end, well or not.
    ended: u64,
    /// When the last one began.
    began: Instant,
    running: bool,
}

impl FetchedSet {
    /// Begins to fetch.
    pub(super) fn start(background: &Background, settings: &FetchedKeys) -> Arc<FetchedSet> {
        let first = Fetches { ended: 0, began: Instant::now(), running: true };
        let set = Arc::new(FetchedSet {
            settings: settings.clone(),
            keys: ArcSwapOption::empty(),
            wanted: Notify::new(),
            fetches: watch::Sender::new(first),
            task: OnceLock::new(),
        });
        // It was made here, so nobody has set it.
        let _ = set.task.set(background.spawn(run(Arc::downgrade(&set))));
        set
    }

    /// The set, where there is one.
    pub(super) fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.load_full()
    }

    /// Waits for the end of the first fetch, if it is not over.
    pub(super) async fn first(&self) {
        // The sender is ours, so it is there.
        let _ = self.fetches.subscribe().wait_for(|fetches| fetches.ended > 0).await;
    }

    /// Whether the set was fetched again meanwhile: now, unless that has just been done.
    pub(super) async fn renewed(&self) -> bool {
        let mut fetches = self.fetches.subscribe();
        let now = *fetches.borrow();
        if !now.running {
            if now.began.elapsed() < self.settings.min_refresh {
                return false;
            }
            self.wanted.notify_one();
        }
        fetches.wait_for(|fetches| fetches.ended > now.ended).await.is_ok()
    }
}

async fn run(set: Weak<FetchedSet>) {
    let Some(settings) = set.upgrade().map(|set| set.settings.clone()) else { return };
    let mut pause = FIRST_PAUSE;
    loop {
        let fetched = match tokio::time::timeout(settings.timeout, fetch(&settings)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("no answer within {} ms", settings.timeout.as_millis())),
        };
        let Some(own) = set.upgrade() else { return };
        let next = match fetched {
            Ok((keys, max_age)) => {
                pause = FIRST_PAUSE;
                own.keys.store(Some(Arc::new(keys)));
                max_age.unwrap_or(settings.refresh).min(settings.refresh).max(settings.min_refresh)
            }
            Err(why) => {
                let kept = if own.keys.load().is_some() {
                    "those fetched before stay in use"
                } else {
                    "there are none"
                };
                tracing::warn!("cannot fetch the keys of {}: {why}; {kept}", settings.url);
                let failed = pause;
                pause = (pause * 2).min(LAST_PAUSE);
                jittered(failed)
            }
        };
        own.fetches.send_modify(|fetches| {
            fetches.ended += 1;
            fetches.running = false;
        });
        drop(own);
        if !wait(&set, next).await {
            return;
        }
        let Some(own) = set.upgrade() else { return };
        own.fetches.send_modify(|fetches| {
            fetches.began = Instant::now();
            fetches.running = true;
        });
    }
}

/// Waits that long, or until somebody wants the set. False: nobody needs it any more.
async fn wait(set: &Weak<FetchedSet>, time: Duration) -> bool {
    let until = tokio::time::Instant::now() + time;
    loop {
        let Some(own) = set.upgrade() else { return false };
        // In between the set can be dropped, and this task with it.
        let step = (tokio::time::Instant::now() + Duration::from_secs(1)).min(until);
        let wanted = tokio::time::timeout_at(step, own.wanted.notified()).await.is_ok();
        // A wish may be left from before the last fetch.
        if wanted && own.fetches.borrow().began.elapsed() >= own.settings.min_refresh {
            return true;
        }
        if tokio::time::Instant::now() >= until {
            return true;
        }
    }
}

/// The keys, and how long the answer says that they are fresh.
async fn fetch(settings: &FetchedKeys) -> Result<(Keys, Option<Duration>), String> {
    // Made anew each time: a fetch is rare, and a rotated authority counts.
    let client = client(settings)?;
    let request = Request::get(settings.url.clone())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, "nylon")
        .body(Empty::<Bytes>::new())
        .map_err(|why| why.to_string())?;
    let response = client.request(request).await.map_err(|why| with_causes(&why))?;
    let (head, body) = response.into_parts();
    match head.status {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            return Err(format!("the answer is {status}: write the address where the keys are"));
        }
        status => return Err(format!("the answer is {status}")),
    }
    let body = Limited::new(body, token_keys::MAX_BYTES).collect().await;
    let body = body.map_err(|why| with_causes(&*why))?.to_bytes();
    let keys = token_keys::parse_set(&body).map_err(|why| format!("the answer {why}"))?;
    Ok((Keys::Public(keys), max_age(&head.headers)))
}

fn client(settings: &FetchedKeys) -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, String> {
    let roots = match settings.url.scheme_str() {
        Some("https") => trusted(settings.ca_file.as_deref(), "jwks.ca_file")?,
        _ => rustls::RootCertStore::empty(),
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("TLS cannot be set up: {why}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

/// How long the answer is fresh (RFC 9111, 5.2.2), where it says so.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives: Vec<String> =
        values.flat_map(|value| value.split(',')).map(|one| one.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|one| one == "no-store" || one == "no-cache") {
        return Some(Duration::ZERO);
    }
    let age = directives.iter().find_map(|one| one.strip_prefix("max-age="))?;
    age.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_read_from_the_answer() {
        for (value, age) in [
            ("public, max-age=300", Some(300)),
            ("Max-Age=\"60\"", Some(60)),
            ("max-age=300, no-store", Some(0)),
            ("max-age=x", None),
            ("private", None),
            ("max-age=99999999999999999999999", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, value.parse().expect("a value"));
            assert_eq!(max_age(&headers), age.map(Duration::from_secs), "{value}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
