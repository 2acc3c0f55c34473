//! `RateLimit`: lets so many requests through in a time, and refuses the others with 429.
//!
//! Each key has a token bucket. Those of this process are asked in place, without waiting; those that several gateways
//! share are in Redis or in NATS, one round trip away. When such a store does not answer, the configuration says whether
//! requests fail, are counted here, or pass.

/// The two fields that tell of a limit.
mod fields;
/// A bucket.
mod gcra;
/// Buckets of this process.
mod local;
/// Buckets in NATS.
mod nats;
/// Buckets in Redis.
mod redis;
/// What is asked of the two.
mod store;

use super::ending::{conclude, fail, pass, refuse};
use super::heads_only;
use super::kept::Kept;
use super::state::State;
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use crate::respond::ErrorAnswer;
use fields::{Fields, retry_after};
use gcra::{Decision, Limit};
use http::StatusCode;
use local::LocalBuckets;
use nats::NatsBuckets;
use nylon_config::plan::{LimitHeaders, LimitStore, Messaging, OnStoreError, Plan, RateLimit, Redis};
use nylon_core::{Exchange, FailureKind, Finished, Op, Outcome, Phase, PhaseMask};
use redis::RedisBuckets;
use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store::{Away, Questions, hashed};

/// Buckets that are shared and outlive a reload.
#[derive(Default)]
pub(super) struct KeptLimits {
    /// By name, limit, key and room.
    local: Kept<(String, Limit, String, usize), LocalBuckets>,
    redis: Kept<(Redis, Limit, Duration), RedisBuckets>,
    nats: Kept<(NatsSettings, Limit, Duration), NatsBuckets>,
}

/// A connection, wherever the configuration names it.
struct NatsSettings {
    messaging: Messaging,
    replicas: usize,
}

impl PartialEq for NatsSettings {
    fn eq(&self, other: &NatsSettings) -> bool {
        self.messaging.is_same_connection(&other.messaging) && self.replicas == other.replicas
    }
}

/// The entry of one middleware.
pub(super) struct RateEntry {
    phases: PhaseMask,
    rules: RateLimit,
    fields: Fields,
    /// Those that count, or take over when the store is away.
    local: Option<Arc<LocalBuckets>>,
    shared: Option<Shared>,
}

/// Buckets in a store.
struct Shared {
    questions: Questions,
    /// What its keys begin with: another limit under the same name has other buckets, as in the process itself.
    prefix: String,
    /// The last question was not answered.
    is_away: AtomicBool,
    /// Holds the task.
    _held: Held,
}

#[allow(dead_code, reason = "they are held, so that their tasks go on")]
enum Held {
    Redis(Arc<RedisBuckets>),
    Nats(Arc<NatsBuckets>),
}

impl RateEntry {
    /// # Errors
    /// When the thread for a store cannot be started.
    pub(super) fn new(
        rules: &RateLimit,
        phases: PhaseMask,
        plan: &Plan,
        state: &State,
    ) -> Result<RateEntry, String> {
        let limit = Limit::new(rules.count, rules.period, rules.burst);
        let (kept, timeout) = (&state.limits, rules.store_timeout);
        let counts_here = rules.store == LimitStore::Local || rules.on_store_error == OnStoreError::Local;
        let local = if counts_here {
            let key = rules.key.as_ref().map_or_else(String::new, ToString::to_string);
            let make = |(_, limit, _, max_keys): &(String, Limit, String, usize)| {
                Ok::<_, String>(Arc::new(LocalBuckets::new(*limit, *max_keys)))
            };
            Some(kept.local.get((rules.name.clone(), limit, key, rules.max_keys), make)?)
        } else {
            None
        };
        let name = format!("{}:{}:{}", rules.name, limit.interval(), limit.burst());
        let shared = match &rules.store {
            LimitStore::Local => None,
            LimitStore::Redis(settings) => {
                let background = state.background()?;
                let buckets = kept.redis.get((settings.clone(), limit, timeout), |(settings, ..)| {
                    Ok::<_, String>(RedisBuckets::start(background, settings, limit, timeout))
                })?;
                let prefix = format!("{}:rate-limit:{name}:", settings.key_prefix);
                Some(Shared::new(buckets.questions.clone(), prefix, Held::Redis(buckets)))
            }
            LimitStore::Nats { messaging, replicas } => {
                let background = state.background()?;
                let messaging = plan.messaging[*messaging].clone();
                let settings = NatsSettings { messaging, replicas: *replicas };
                let buckets = kept.nats.get((settings, limit, timeout), |(settings, ..)| {
                    let NatsSettings { messaging, replicas } = settings;
                    Ok::<_, String>(NatsBuckets::start(background, messaging, *replicas, limit, timeout))
                })?;
                let prefix = format!("{}.", hashed(name.as_bytes()));
                Some(Shared::new(buckets.questions.clone(), prefix, Held::Nats(buckets)))
            }
        };
        Ok(RateEntry { phases, fields: Fields::new(rules)?, rules: rules.clone(), local, shared })
    }

    /// Whose bucket it is.
    fn key(&self, exchange: &Exchange) -> Result<Key, String> {
        match &self.rules.key {
            Some(template) => template.render(exchange).map(Key::Rendered).map_err(|why| why.to_string()),
            None => Ok(Key::Client(of_client(exchange.facts.client_ip))),
        }
    }

    fn judge(&self, exchange: Box<Exchange>, decision: &Decision) -> Finished {
        if decision.allowed {
            return pass(exchange);
        }
        let answer = ErrorAnswer { status: StatusCode::TOO_MANY_REQUESTS, text: "too many requests" };
        // With `always` the response phase adds them, as to every response.
        let told = (self.rules.headers == LimitHeaders::Refused).then(|| self.fields.of(decision));
        refuse(exchange, answer, [retry_after(decision)].into_iter().chain(told.into_iter().flatten()))
    }

    async fn later(
        &self,
        shared: &Shared,
        exchange: Box<Exchange>,
        key: Key,
        deadline: Instant,
        told: &mut Told,
    ) -> Finished {
        let timeout = self.rules.store_timeout.min(deadline.saturating_duration_since(Instant::now()));
        let asked =
            shared.questions.take(format!("{}{}", shared.prefix, hashed(key.as_bytes())), timeout).await;
        let decision = match asked {
            Ok(decision) => {
                if shared.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the store of the rate limit `{}` answers again", self.rules.name);
                }
                decision
            }
            Err(Away(why)) => {
                // Said once: a store that is away would fill the log.
                if !shared.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the store of the rate limit `{}` does not answer: {why}",
                        self.rules.name
                    );
                }
                match (self.rules.on_store_error, &self.local) {
                    (OnStoreError::Allow, _) => return pass(exchange),
                    (OnStoreError::Local, Some(buckets)) => buckets.take(key.as_bytes()),
                    (OnStoreError::Local | OnStoreError::Fail, _) => {
                        let why = format!("the store of the rate limit does not answer: {why}");
                        return fail(exchange, FailureKind::Unavailable, why);
                    }
                }
            }
        };
        self.tell(&decision, told);
        self.judge(exchange, &decision)
    }

    /// Keeps the decision for the response.
    fn tell(&self, decision: &Decision, told: &mut Told) {
        if self.rules.headers == LimitHeaders::Always {
            *told = Some(Box::new(*decision));
        }
    }
}

impl Shared {
    fn new(questions: Questions, prefix: String, held: Held) -> Shared {
        Shared { questions, prefix, is_away: AtomicBool::new(false), _held: held }
    }
}

/// What a session keeps for its response: a [`Decision`].
type Told = Option<Box<dyn Any + Send>>;

/// What requests are counted by.
enum Key {
    /// The client's address.
    Client([u8; 9]),
    /// What the configuration's template gives.
    Rendered(String),
}

impl Key {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Key::Client(address) => address,
            Key::Rendered(text) => text.as_bytes(),
        }
    }
}

/// A client by its address. Whoever has an IPv6 address has the 2^64 of its network.
fn of_client(address: IpAddr) -> [u8; 9] {
    let mut key = [0; 9];
    match address.to_canonical() {
        IpAddr::V4(address) => {
            key[0] = 4;
            key[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            key[0] = 6;
            key[1..].copy_from_slice(&address.octets()[..8]);
        }
    }
    key
}

impl PluginEntry for RateEntry {
    fn traits(&self) -> EntryTraits {
        heads_only(self.phases)
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let PhaseCall { exchange, call, deadline, session, .. } = call;
        if call.phase != Phase::RequestFilter {
            // Nothing is told where the store was away and requests pass.
            let decision = session.slot.as_ref().and_then(|slot| slot.downcast_ref::<Decision>());
            let told = decision.map(|decision| self.fields.of(decision));
            // Beside those of other limits, and of the service itself.
            let ops = told.into_iter().flatten().map(|(name, value)| Op::AddResponseHeader(name, value));
            return Pending::Ready(conclude(exchange, &ops.collect::<Vec<_>>(), Outcome::Next));
        }
        let key = match self.key(&exchange) {
            Ok(key) => key,
            Err(why) => return Pending::Ready(fail(exchange, FailureKind::Raised, why)),
        };
        match (&self.shared, &self.local) {
            (Some(shared), _) => {
                Pending::Later(Box::pin(self.later(shared, exchange, key, deadline, &mut session.slot)))
            }
            (None, Some(buckets)) => {
                let decision = buckets.take(key.as_bytes());
                self.tell(&decision, &mut session.slot);
                Pending::Ready(self.judge(exchange, &decision))
            }
            (None, None) => {
                Pending::Ready(fail(exchange, FailureKind::Unavailable, "the limit has no buckets"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_ipv4_address_or_its_ipv6_network() {
        let of = |text: &str| of_client(text.parse().expect("an address"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:0:ffff::"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
