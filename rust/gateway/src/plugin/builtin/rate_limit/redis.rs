//! Buckets in Redis: one script for each request, so that reading and writing are one step whoever else asks.
//!
//! The script is told the limit and takes the time from the server, so the gateways' clocks do not matter. A bucket is one
//! number that expires when the bucket is full again.

use super::gcra::{Decision, Limit};
use super::store::{Away, End, Question, Questions, Server, run};
use crate::causes::with_causes;
use crate::plugin::builtin::background::{Background, Task};
use crate::plugin::remote::client_config;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use nylon_config::plan::Redis;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Script};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// Scripts on their way at once.
const MAX_INFLIGHT: usize = 1024;
/// After so many questions in a row without an answer the connection is made anew: a peer that is frozen, or behind a cable
/// that was pulled, says nothing.
const MAX_SILENT: u32 = 3;

/// Takes a token. Times are microseconds since 2024, which a Lua number holds with room for fractions.
///
/// ARGV: the time in which one token comes back, and in which a whole bucket does. The answer: allowed, tokens left,
/// microseconds until the next token, microseconds until the bucket is full.
const SCRIPT: &str = r"
local clock = redis.call('TIME')
local now = (tonumber(clock[1]) - 1704067200) * 1000000 + tonumber(clock[2])
local interval = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local from = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now), now + window)
local ahead = from + interval - now
local slack = 0.01
if ahead > window + slack then
    return {0, 0, math.ceil(ahead - window), math.ceil(from - now)}
end
redis.call('SET', KEYS[1], string.format('%.3f', from + interval), 'PX', math.ceil(ahead / 1000) + 1)
local left = math.max(window - ahead, 0)
return {1, math.floor((left + slack) / interval), math.ceil(math.max(interval - left, 0)), math.ceil(ahead)}
";

/// The buckets of one limit in one server.
pub(super) struct RedisBuckets {
    pub(super) questions: Questions,
    _task: Task,
}

/// What its task knows.
struct RedisServer {
    settings: Redis,
    timeout: Duration,
    script: Script,
    /// Microseconds.
    interval: f64,
    window: f64,
}

impl RedisBuckets {
    /// Begins to connect.
    pub(super) fn start(
        background: &Background,
        settings: &Redis,
        limit: Limit,
        timeout: Duration,
    ) -> Arc<RedisBuckets> {
        let (questions, receiver) = Questions::channel();
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let server = RedisServer {
            settings: settings.clone(),
            timeout,
            script: Script::new(SCRIPT),
            interval: micros(limit.interval()),
            window: micros(limit.window()),
        };
        Arc::new(RedisBuckets { questions, _task: background.spawn(run(server, receiver)) })
    }
}

/// A connection, and the future that moves its bytes.
type Opened = (MultiplexedConnection, BoxFuture<'static, ()>);

impl Server for RedisServer {
    type Connection = Opened;

    fn shown(&self) -> String {
        format!("the Redis server {}:{}", self.settings.host, self.settings.port)
    }

    async fn connect(&self) -> Result<Opened, String> {
        let Redis { host, port, user, password, db, tls, .. } = &self.settings;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|why| why.to_string())?;
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
        let mut login = RedisConnectionInfo::default().set_db(i64::from(*db));
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password.reveal());
        }
        let Some(tls) = tls else { return open(&login, stream).await };
        let config = client_config(tls)?;
        let name = ServerName::try_from(host.clone()).map_err(|why| format!("`{host}`: {why}"))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        open(&login, stream.map_err(|why| with_causes(&why))?).await
    }

    async fn serve(&self, (connection, mut driver): Opened, questions: &mut mpsc::Receiver<Question>) -> End {
        let mut asked = FuturesUnordered::new();
        let mut silent = 0;
        loop {
            tokio::select! {
                () = &mut driver => return End::Lost("the server has closed the connection".to_owned()),
                Some(ended) = asked.next() => match ended {
                    Asked::Answered => silent = 0,
                    Asked::Lost(why) => return End::Lost(why),
                    Asked::Silent => {
                        silent += 1;
                        if silent == MAX_SILENT {
                            return End::Lost("the server has stopped answering".to_owned());
                        }
                    }
                },
                question = questions.recv(), if asked.len() < MAX_INFLIGHT => match question {
                    None => return End::Unneeded,
                    Some(question) if question.answer.is_closed() => {}
                    Some(question) => asked.push(self.ask(connection.clone(), question)),
                },
            }
        }
    }
}

impl RedisServer {
    async fn ask(&self, mut connection: MultiplexedConnection, question: Question) -> Asked {
        let mut call = self.script.key(question.key);
        call.arg(self.interval).arg(self.window);
        let answer = tokio::time::timeout(self.timeout, call.invoke_async::<[u64; 4]>(&mut connection)).await;
        let (answer, ended) = match answer {
            Ok(Ok([allowed, remaining, retry, full])) => {
                let decision = Decision {
                    allowed: allowed == 1,
                    remaining,
                    retry_after: Duration::from_micros(retry),
                    full_after: Duration::from_micros(full),
                };
                (Ok(decision), Asked::Answered)
            }
            Ok(Err(why)) => {
                let text = with_causes(&why);
                // A server that was a master and is none any more stays so on this connection.
                let lost = why.is_unrecoverable_error() || why.code() == Some("READONLY");
                let ended = if lost { Asked::Lost(text.clone()) } else { Asked::Answered };
                (Err(Away(text)), ended)
            }
            Err(_) => (Err(Away(format!("no answer within {} ms", self.timeout.as_millis()))), Asked::Silent),
        };
        // Whoever asked may have gone.
        let _ = question.answer.send(answer);
        ended
    }
}

/// What became of a question.
enum Asked {
    Answered,
    Silent,
    Lost(String),
}

async fn open<S>(login: &RedisConnectionInfo, stream: S) -> Result<Opened, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Each question has its own time, which is watched here.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let opened = MultiplexedConnection::new_with_config(login, stream, config).await;
    let (connection, driver) = opened.map_err(|why| with_causes(&why))?;
    Ok((connection, Box::pin(driver)))
}
