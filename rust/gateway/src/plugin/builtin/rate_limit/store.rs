//! Buckets that several gateways share: what a request asks of a store, and how it waits.
//!
//! A store is spoken to by one task beside the data plane, through a bounded queue. Each question has a deadline of its own;
//! one that finds the queue full or the store away is answered at once, so that the request goes on by what the
//! configuration says.

use super::gcra::Decision;
use crate::plugin::remote::jittered;
use std::future::Future;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait to be sent.
pub(super) const MAX_WAITING: usize = 4096;
/// How long a connection may take to be there.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause after one that failed or was lost; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// A store does not answer; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Away(pub(super) String);

/// A token is to be taken from the bucket of this key.
pub(super) struct Question {
    pub(super) key: String,
    pub(super) answer: oneshot::Sender<Result<Decision, Away>>,
}

/// The way to a store's task.
#[derive(Clone)]
pub(super) struct Questions(mpsc::Sender<Question>);

impl Questions {
    pub(super) fn channel() -> (Questions, mpsc::Receiver<Question>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Questions(sender), receiver)
    }

    /// Takes a token from the bucket of `key`.
    pub(super) async fn take(&self, key: String, timeout: Duration) -> Result<Decision, Away> {
        let (answer, answered) = oneshot::channel();
        if self.0.try_send(Question { key, answer }).is_err() {
            return Err(Away("too many requests wait for it".to_owned()));
        }
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Away("it was given up".to_owned())),
            Err(_) => Err(Away(format!("no answer within {} ms", timeout.as_millis()))),
        }
    }
}

impl Question {
    pub(super) fn refuse(self, why: &str) {
        // Whoever asked may have gone.
        let _ = self.answer.send(Err(Away(why.to_owned())));
    }
}

/// A server that keeps buckets.
pub(super) trait Server: Sized + Send + Sync {
    /// A connection to it.
    type Connection: Send;

    /// What it is called in the log.
    fn shown(&self) -> String;

    /// Connects; the caller watches the time. An error is the text for the log.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;

    /// Answers what is asked for as long as the connection is there.
    fn serve(
        &self,
        connection: Self::Connection,
        questions: &mut mpsc::Receiver<Question>,
    ) -> impl Future<Output = End> + Send;
}

/// Why a connection is no more.
pub(super) enum End {
    /// Nobody asks any more.
    Unneeded,
    /// For this reason.
    Lost(String),
}

/// Answers what is asked, over one connection after the other.
pub(super) async fn run(server: impl Server, mut questions: mpsc::Receiver<Question>) {
    let mut pause = FIRST_PAUSE;
    let mut away: Option<String> = None;
    loop {
        // Whoever asks before the first try is over waits for it. After that there is no use in it.
        let timed = tokio::time::timeout(CONNECT_TIMEOUT, server.connect());
        let Some(connected) = meanwhile_refusing(timed, &mut questions, away.as_deref()).await else {
            return;
        };
        let late = || Err(format!("it did not answer within {} s", CONNECT_TIMEOUT.as_secs()));
        let why = match connected.unwrap_or_else(|_| late()) {
            Ok(connection) => {
                if away.take().is_some() {
                    tracing::info!("connected to {} again", server.shown());
                }
                pause = FIRST_PAUSE;
                match server.serve(connection, &mut questions).await {
                    End::Unneeded => return,
                    End::Lost(why) => why,
                }
            }
            Err(why) => why,
        };
        if away.as_deref() != Some(&*why) {
            tracing::warn!("no connection to {}: {why}", server.shown());
        }
        let sleep = tokio::time::sleep(jittered(pause));
        if meanwhile_refusing(sleep, &mut questions, Some(&why)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LAST_PAUSE);
        away = Some(why);
    }
}

/// What `work` gives; what is asked in the meantime is refused with `why`, or waits where there is none. `None`: nobody asks
/// any more.
async fn meanwhile_refusing<T>(
    work: impl Future<Output = T>,
    questions: &mut mpsc::Receiver<Question>,
    why: Option<&str>,
) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            question = questions.recv(), if why.is_some() => question?.refuse(why.unwrap_or_default()),
        }
    }
}

/// A key as it stands in a store: of fixed length and without anything that a client wrote.
pub(super) fn hashed(key: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key);
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
