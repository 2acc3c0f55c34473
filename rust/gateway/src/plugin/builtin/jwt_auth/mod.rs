//! `JwtAuth`: lets requests through that come with a JSON Web Token (RFC 7519) by somebody whose keys are known.
//!
//! A refusal is answered as RFC 6750 says: 401 without a token or with one that is not taken, 403 where it is somebody's
//! who may not do this, 503 while there are no keys to tell. Verifying waits for nothing and is done in place; only keys that have
//! to be fetched are waited for.

/// Claims, checked and passed on.
mod claims;
/// Keys from a URL.
mod fetched;
/// Signatures.
mod token;

use super::ending::{conclude, fail, refuse};
use super::heads_only;
use super::kept::Kept;
use super::state::State;
use super::watched::{Reader, Watched};
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use crate::respond::ErrorAnswer;
use fetched::FetchedSet;
use http::{HeaderValue, StatusCode, header};
use nylon_config::plan::{FetchedKeys, JwtAuth, TokenKeys};
use nylon_config::token_keys;
use nylon_core::head::joined;
use nylon_core::{Exchange, FailureKind, Finished, Op, Outcome, PhaseMask, TargetPart};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use token::{Claims, Keys, Token};

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// There is none.
    Missing,
    /// It was sent in a way that does not say which one is meant.
    Unclear(&'static str),
    /// It is none that is taken. The text is for the client.
    Invalid(&'static str),
    /// It names a key that is not known.
    UnknownKey,
    /// It is genuine and not enough.
    Insufficient,
}

/// Key sets that are shared and outlive a reload.
#[derive(Default)]
pub(super) struct KeptKeys {
    files: Kept<(bool, PathBuf), Watched<Keys>>,
    fetched: Kept<FetchedKeys, FetchedSet>,
}

enum Source {
    Fixed(Arc<Keys>),
    File(Arc<Watched<Keys>>),
    Fetched(Arc<FetchedSet>),
}

/// The entry of one middleware.
pub(super) struct JwtEntry {
    phases: PhaseMask,
    rules: JwtAuth,
    source: Source,
}

impl JwtEntry {
    /// # Errors
    /// Why the keys cannot be read.
    pub(super) fn new(rules: &JwtAuth, phases: PhaseMask, state: &State) -> Result<JwtEntry, String> {
        let kept = &state.keys;
        let file = |path: &PathBuf, is_set, read: Reader<Keys>| {
            let key = (is_set, path.clone());
            kept.files
                .get(key, |(_, path)| Watched::start(state.background()?, path.clone(), read))
                .map(Source::File)
        };
        let source = match &rules.keys {
            TokenKeys::Secret(secret) => Source::Fixed(Arc::new(Keys::Secret(secret.clone()))),
            TokenKeys::Pem(path) => file(path, false, read_pem)?,
            TokenKeys::Set(path) => file(path, true, read_set)?,
            TokenKeys::Fetched(settings) => {
                let start = |settings: &FetchedKeys| {
                    Ok::<_, String>(FetchedSet::start(state.background()?, settings))
                };
                Source::Fetched(kept.fetched.get(settings.clone(), start)?)
            }
        };
        Ok(JwtEntry { phases, rules: rules.clone(), source })
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        match &self.source {
            Source::Fixed(keys) => Some(keys.clone()),
            Source::File(file) => Some(file.get()),
            Source::Fetched(set) => set.keys(),
        }
    }

    /// What the token of the exchange says, verified and checked.
    fn claims(&self, exchange: &Exchange, keys: &Keys) -> Result<Claims, Refusal> {
        let text = token_of(&self.rules, exchange)?;
        let claims = Token::read(&text, &self.rules.algorithms)?.verify(keys)?;
        claims::check(&self.rules, &claims, SystemTime::now())?;
        Ok(claims)
    }

    fn judge(&self, exchange: Box<Exchange>, claims: Result<Claims, Refusal>) -> Finished {
        let ops = claims.and_then(|claims| claims::ops(&self.rules.headers, &claims));
        match ops {
            Ok(mut ops) => {
                if !self.rules.forward_token {
                    ops.extend(without_token(&self.rules, &exchange));
                }
                conclude(exchange, &ops, Outcome::Next)
            }
            Err(refusal) => self.refuse(exchange, refusal),
        }
    }

    fn refuse(&self, exchange: Box<Exchange>, refusal: Refusal) -> Finished {
        let realm = &self.rules.realm;
        let said = |error: &str, text: &str| {
            format!("Bearer {realm}, error=\"{error}\", error_description=\"{text}\"")
        };
        let unauthorized = StatusCode::UNAUTHORIZED;
        let (status, text, challenge) = match refusal {
            Refusal::Missing => (unauthorized, "unauthorized", format!("Bearer {realm}")),
            Refusal::Unclear(why) => {
                (StatusCode::BAD_REQUEST, "invalid request", said("invalid_request", why))
            }
            Refusal::Invalid(why) => (unauthorized, "unauthorized", said("invalid_token", why)),
            Refusal::UnknownKey => {
                (unauthorized, "unauthorized", said("invalid_token", "the token's key is not known"))
            }
            Refusal::Insufficient => {
                let mut challenge = said("insufficient_scope", "the token does not allow this");
                if !self.rules.scopes.is_empty() {
                    challenge += &format!(", scope=\"{}\"", self.rules.scopes.join(" "));
                }
                (StatusCode::FORBIDDEN, "forbidden", challenge)
            }
        };
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => {
                refuse(exchange, ErrorAnswer { status, text }, [(header::WWW_AUTHENTICATE, challenge)])
            }
            Err(_) => fail(exchange, FailureKind::Raised, "the challenge is no header value"),
        }
    }

    /// The same where keys have to be waited for.
    async fn later(&self, set: &FetchedSet, exchange: Box<Exchange>, deadline: Instant) -> Finished {
        let wait = async {
            set.first().await;
            let judged = set.keys().map(|keys| self.claims(&exchange, &keys));
            match judged {
                // A set that does not have the key may be an old one.
                Some(Err(Refusal::UnknownKey)) if set.renewed().await => {
                    set.keys().map(|keys| self.claims(&exchange, &keys))
                }
                judged => judged,
            }
        };
        match tokio::time::timeout_at(deadline.into(), wait).await {
            Ok(Some(claims)) => self.judge(exchange, claims),
            Ok(None) => {
                const WHY: &str = "the keys that verify tokens have not been fetched yet";
                fail(exchange, FailureKind::Unavailable, WHY)
            }
            Err(_) => {
                const WHY: &str = "the keys that verify tokens were not fetched in time";
                fail(exchange, FailureKind::TimedOut, WHY)
            }
        }
    }
}

fn read_pem(path: &Path) -> Result<Keys, String> {
    let key = token_keys::read_pem(path).map_err(|why| format!("the file `{}` {why}", path.display()))?;
    Ok(Keys::Public(vec![key]))
}

fn read_set(path: &Path) -> Result<Keys, String> {
    let keys = token_keys::read_set(path).map_err(|why| format!("the file `{}` {why}", path.display()))?;
    Ok(Keys::Public(keys))
}

impl PluginEntry for JwtEntry {
    fn traits(&self) -> EntryTraits {
        heads_only(self.phases)
    }

    fn keeps_sessions(&self) -> bool {
        false
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let PhaseCall { exchange, deadline, .. } = call;
        let judged = self.keys().map(|keys| self.claims(&exchange, &keys));
        match (judged, &self.source) {
            (None | Some(Err(Refusal::UnknownKey)), Source::Fetched(set)) => {
                Pending::Later(Box::pin(self.later(set, exchange, deadline)))
            }
            (Some(claims), _) => Pending::Ready(self.judge(exchange, claims)),
            (None, _) => Pending::Ready(self.judge(exchange, Err(Refusal::UnknownKey))),
        }
    }
}

/// The token that the request brings: in the header, or else in the cookie, or else in the query.
fn token_of(rules: &JwtAuth, exchange: &Exchange) -> Result<String, Refusal> {
    const TWICE: Refusal = Refusal::Unclear("there is more than one token");
    let request = &exchange.request;
    let mut values = request.headers.get_all(&rules.header).iter();
    if let Some(value) = values.next() {
        if values.next().is_some() {
            return Err(TWICE);
        }
        let value = value.to_str().map_err(|_| Refusal::Invalid("the token is malformed"))?.trim();
        if rules.header != header::AUTHORIZATION {
            return Ok(value.to_owned());
        }
        // Another scheme is somebody else's business; the token may stand elsewhere.
        if let Some((scheme, token)) = value.split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return Ok(token.trim_start().to_owned());
        }
    }
    let mut found = Vec::new();
    if let Some(wanted) = &rules.cookie {
        let cookies = joined(&request.headers, &header::COOKIE, |all| {
            let pairs = all.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let values = pairs.filter_map(|pair| pair.strip_prefix(wanted.as_bytes())?.strip_prefix(b"="));
            values.map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>()
        });
        found.extend(cookies.into_iter().flatten());
    }
    if let (Some(wanted), Some(query), true) = (&rules.query, &request.query, found.is_empty()) {
        found.extend(parameters(query.as_str()).filter(|(name, _)| name == wanted).map(|(_, value)| value));
    }
    match found.len() {
        0 => Err(Refusal::Missing),
        1 => Ok(found.swap_remove(0)),
        _ => Err(TWICE),
    }
}

fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    query.split('&').map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// The operations after which the service does not see the token.
fn without_token(rules: &JwtAuth, exchange: &Exchange) -> Vec<Op> {
    let request = &exchange.request;
    let mut ops = Vec::new();
    // Of another scheme it is no token, and perhaps the service's business.
    let is_token = |value: &HeaderValue| {
        rules.header != header::AUTHORIZATION
            || value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
    };
    if request.headers.get(&rules.header).is_some_and(is_token) {
        ops.push(Op::RemoveRequestHeader(rules.header.clone()));
    }
    if let Some(unwanted) = &rules.cookie
        && request.headers.contains_key(header::COOKIE)
    {
        let kept = joined(&request.headers, &header::COOKIE, |all| {
            let pairs = all.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let is_token = |pair: &&[u8]| {
                pair.strip_prefix(unwanted.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
            };
            pairs.filter(|pair| !is_token(pair)).collect::<Vec<_>>().join(&b"; "[..])
        });
        match kept.map(|kept| HeaderValue::from_bytes(&kept)) {
            Some(Ok(kept)) if !kept.is_empty() => ops.push(Op::SetRequestHeader(header::COOKIE, kept)),
            _ => ops.push(Op::RemoveRequestHeader(header::COOKIE)),
        }
    }
    if let (Some(unwanted), Some(query)) = (&rules.query, &request.query) {
        let is_token = |pair: &&str| parameters(pair).next().is_some_and(|(name, _)| name == *unwanted);
        let kept = query.as_str().split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&");
        let kept = (!kept.is_empty()).then(|| TargetPart::query(kept.into())).flatten();
        ops.push(Op::SetQuery(kept));
    }
    ops
}
