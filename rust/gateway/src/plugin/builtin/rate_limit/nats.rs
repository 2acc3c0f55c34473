//! Buckets in a key-value bucket of NATS JetStream.
//!
//! A value is replaced only where it is still the one that was read, so that no two gateways take the same token. Requests
//! for one key that come while such a step is on its way wait for it and take their tokens together in the next one. After
//! its own step a gateway knows value and revision, so that a key which it alone serves costs one round trip, and a key whose
//! bucket is empty none: others can only have emptied it further.
//!
//! Values are moments, so the gateways' clocks must agree; one that is ahead makes the limit stricter by as much, for no
//! longer than a bucket takes to fill.

use super::gcra::{Decision, Limit};
use super::store::{Away, CONNECT_TIMEOUT, End, MAX_WAITING, Question, Questions, Server, run};
use crate::causes::with_causes;
use crate::plugin::builtin::background::{Background, Task};
use crate::plugin::remote::Access;
use async_nats::connection::State;
use async_nats::jetstream::kv::{self, Operation, UpdateErrorKind};
use async_nats::jetstream::{self, stream::StorageType};
use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use nylon_config::plan::{Broker, Messaging};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Tries of one step; each time somebody else was quicker.
const MAX_TRIES: u32 = 32;
/// After so many steps in a row that failed the bucket is looked for anew: a server that has come back may have lost it.
const MAX_FAILED: u32 = 3;
/// Keys whose last value is remembered.
const MAX_KNOWN: usize = 16_384;

/// The buckets of one limit.
pub(super) struct NatsBuckets {
    pub(super) questions: Questions,
    _task: Task,
}

/// What its task knows.
struct NatsServer {
    messaging: Messaging,
    replicas: usize,
    limit: Limit,
    timeout: Duration,
}

/// A value as it was read or written last.
#[derive(Clone, Copy)]
struct Known {
    full_at: u64,
    revision: u64,
}

/// What is on its way for one key.
#[derive(Default)]
struct Turn {
    waiting: Vec<oneshot::Sender<Result<Decision, Away>>>,
    known: Option<Known>,
    /// A step is on its way.
    busy: bool,
}

impl NatsBuckets {
    /// Begins to connect.
    pub(super) fn start(
        background: &Background,
        messaging: &Messaging,
        replicas: usize,
        limit: Limit,
        timeout: Duration,
    ) -> Arc<NatsBuckets> {
        let (questions, receiver) = Questions::channel();
        let server = NatsServer { messaging: messaging.clone(), replicas, limit, timeout };
        Arc::new(NatsBuckets { questions, _task: background.spawn(run(server, receiver)) })
    }
}

/// The keys of a step, how many tokens it was to take, and what came of it.
type Step = (String, usize, Result<(Vec<Decision>, Known), Away>);

impl Server for NatsServer {
    type Connection = (Client, kv::Store);

    fn shown(&self) -> String {
        format!("the rate limits in messaging {:?}", self.messaging.name)
    }

    async fn connect(&self) -> Result<(Client, kv::Store), String> {
        let Broker::Servers(servers) = &self.messaging.broker else {
            return Err("it is a server of the gateway's own, without JetStream".to_owned());
        };
        let access = Access { auth: self.messaging.auth.clone(), tls: self.messaging.tls.clone() };
        // All of them have to be tried within that time.
        let each = CONNECT_TIMEOUT / (servers.len() as u32 + 1);
        let options = ConnectOptions::new().name("nylon rate limits").connection_timeout(each);
        let connected = access.apply(options)?.connect(servers.clone()).await;
        let client = connected.map_err(|why| access.explain(&why))?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(self.timeout.max(CONNECT_TIMEOUT));
        let (name, max_age) = bucket(&self.messaging.subject_prefix, self.limit);
        if let Ok(bucket) = context.get_key_value(&name).await {
            return Ok((client, bucket));
        }
        let config = kv::Config {
            bucket: name.clone(),
            description: "Rate limits of Nylon gateways".to_owned(),
            history: 1,
            max_age,
            storage: StorageType::Memory,
            num_replicas: self.replicas,
            ..kv::Config::default()
        };
        match context.create_key_value(config).await {
            Ok(bucket) => Ok((client, bucket)),
            // Another gateway may have made it at the same moment.
            Err(why) => match context.get_key_value(&name).await {
                Ok(bucket) => Ok((client, bucket)),
                Err(_) => Err(format!("the key-value bucket `{name}` cannot be had: {}", with_causes(&why))),
            },
        }
    }

    /// The client connects again by itself.
    async fn serve(
        &self,
        (client, bucket): (Client, kv::Store),
        questions: &mut mpsc::Receiver<Question>,
    ) -> End {
        let mut turns: HashMap<String, Turn> = HashMap::new();
        let mut steps: FuturesUnordered<BoxFuture<'static, Step>> = FuturesUnordered::new();
        let (mut waiting, mut failed) = (0, 0);
        loop {
            tokio::select! {
                Some((key, count, ended)) = steps.next() => {
                    let Some(turn) = turns.get_mut(&key) else { continue };
                    let answered: Vec<_> = turn.waiting.drain(..count).collect();
                    waiting -= count;
                    turn.busy = false;
                    turn.known = None;
                    match ended {
                        Ok((decisions, known)) => {
                            failed = 0;
                            turn.known = Some(known);
                            for (answer, decision) in answered.into_iter().zip(decisions) {
                                // Whoever asked may have gone.
                                let _ = answer.send(Ok(decision));
                            }
                        }
                        Err(why) => {
                            for answer in answered {
                                let _ = answer.send(Err(why.clone()));
                            }
                            failed += 1;
                            if failed == MAX_FAILED {
                                return End::Lost(why.0);
                            }
                        }
                    }
                    if let Some(step) = self.step(&bucket, &key, turn, &mut waiting) {
                        steps.push(step);
                    }
                }
                question = questions.recv() => {
                    let Some(question) = question else { return End::Unneeded };
                    if client.connection_state() != State::Connected {
                        question.refuse("the connection is lost");
                        continue;
                    }
                    if waiting == MAX_WAITING {
                        question.refuse("too many requests wait for it");
                        continue;
                    }
                    if turns.len() >= MAX_KNOWN {
                        turns.retain(|_, turn| turn.busy);
                    }
                    let turn = turns.entry(question.key.clone()).or_default();
                    turn.waiting.push(question.answer);
                    waiting += 1;
                    if let Some(step) = self.step(&bucket, &question.key, turn, &mut waiting) {
                        steps.push(step);
                    }
                }
            }
        }
    }
}

impl NatsServer {
    /// The next step for a key, where one is due.
    fn step(
        &self,
        bucket: &kv::Store,
        key: &str,
        turn: &mut Turn,
        waiting: &mut usize,
    ) -> Option<BoxFuture<'static, Step>> {
        if turn.busy {
            return None;
        }
        // Those who have given up take no token.
        let before = turn.waiting.len();
        turn.waiting.retain(|answer| !answer.is_closed());
        *waiting -= before - turn.waiting.len();
        let count = turn.waiting.len();
        if count == 0 {
            return None;
        }
        turn.busy = true;
        let (bucket, key, known) = (bucket.clone(), key.to_owned(), turn.known);
        let (limit, timeout) = (self.limit, self.timeout);
        Some(Box::pin(async move {
            let taken = tokio::time::timeout(timeout, take(&bucket, &key, limit, count, known)).await;
            let taken = match taken {
                Ok(taken) => taken.map_err(Away),
                Err(_) => Err(Away(format!("no answer within {} ms", timeout.as_millis()))),
            };
            (key, count, taken)
        }))
    }
}

/// Takes `count` tokens, one after the other, in one step.
async fn take(
    bucket: &kv::Store,
    key: &str,
    limit: Limit,
    count: usize,
    mut known: Option<Known>,
) -> Result<(Vec<Decision>, Known), String> {
    for _ in 0..MAX_TRIES {
        let before = match known {
            Some(known) => known,
            None => read(bucket, key).await?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut full_at = before.full_at;
        let decisions: Vec<Decision> = (0..count).map(|_| limit.take(&mut full_at, now)).collect();
        if decisions.iter().all(|decision| !decision.allowed) {
            return Ok((decisions, before));
        }
        let value = Bytes::copy_from_slice(&full_at.to_be_bytes());
        match bucket.update(key, value, before.revision).await {
            Ok(revision) => return Ok((decisions, Known { full_at, revision })),
            Err(why) if why.kind() == UpdateErrorKind::WrongLastRevision => known = None,
            Err(why) => return Err(with_causes(&why)),
        }
    }
    Err(format!("others were quicker {MAX_TRIES} times"))
}

async fn read(bucket: &kv::Store, key: &str) -> Result<Known, String> {
    let entry = bucket.entry(key).await.map_err(|why| with_causes(&why))?;
    Ok(entry.map_or(Known { full_at: 0, revision: 0 }, |entry| {
        let bytes: Option<[u8; 8]> =
            (entry.operation == Operation::Put).then(|| (*entry.value).try_into().ok()).flatten();
        // What nobody of ours has written is no bucket; the next step puts that right.
        Known { full_at: bytes.map_or(0, u64::from_be_bytes), revision: entry.revision }
    }))
}

/// The key-value bucket for limits that fill in about this time, and how long it keeps a value: as long as any of them needs
/// at least. A bucket's settings never change, so gateways of different configurations can share it.
fn bucket(prefix: &str, limit: Limit) -> (String, Duration) {
    const CLASSES: [(&str, u64); 4] =
        [("minute", 60), ("hour", 3_600), ("day", 86_400), ("month", 31 * 86_400)];
    let window = Duration::from_nanos(limit.window());
    let fits = |(_, seconds): &(&str, u64)| window <= Duration::from_secs(*seconds);
    let (name, seconds) = CLASSES.into_iter().find(fits).unwrap_or(CLASSES[3]);
    let prefix: String =
        prefix.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    (format!("{prefix}-rate-limits-{name}"), Duration::from_secs(seconds + 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_keeps_values_as_long_as_the_limit_needs() {
        let of =
            |count, period, burst| bucket("nylon.eu", Limit::new(count, Duration::from_secs(period), burst));
        assert_eq!(of(100, 1, 100).0, "nylon-eu-rate-limits-minute");
        assert_eq!(of(1, 1, 61).0, "nylon-eu-rate-limits-hour");
        assert_eq!(of(5, 86_400, 5).0, "nylon-eu-rate-limits-day");
        let (name, age) = of(1, 86_400, 31);
        assert_eq!(
            (name.as_str(), age > Duration::from_secs(31 * 86_400)),
            ("nylon-eu-rate-limits-month", true)
        );
    }
}
