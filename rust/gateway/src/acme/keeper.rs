//! Keeps one certificate: uses what is stored, obtains what is missing, renews what runs out, and tries again what failed.

use super::Wanted;
use super::failure::Failure;
use super::order::{Means, order};
use super::schedule;
use super::storage::{self, Kept, StorageError};
use super::stored::{self, Stored};
use rustls::crypto::CryptoProvider;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// How often it is looked whether another process is done with the same order.
const ELSEWHERE: Duration = Duration::from_secs(3);

/// One certificate of the configuration, from the start or the reload that brought it to the one that takes it away.
pub(super) struct Managed {
    pub(super) wanted: Wanted,
    kept: Kept,
    state: Mutex<State>,
}

/// How it stands.
struct State {
    stored: Option<Stored>,
    /// When something is to be done next.
    due: SystemTime,
    /// Why the last try failed.
    problem: Option<String>,
    /// A plan without it is live: what is still obtained is not used any more.
    ended: bool,
}

/// What is done next about a certificate, for people.
#[derive(Clone, Debug)]
pub struct Obtaining {
    /// The URL of the authority's directory.
    pub directory_url: String,
    /// When it is obtained, renewed or tried again.
    pub due: SystemTime,
    /// Why the last try failed.
    pub problem: Option<String>,
}

impl Managed {
    /// What is stored of `wanted`. It needs no network.
    ///
    /// # Errors
    /// The directory cannot be made, or the file is not readable. A file that can be read and is not whole, or is not
    /// what is wanted, is obtained anew.
    pub(super) fn load(wanted: Wanted, provider: &CryptoProvider) -> Result<Managed, StorageError> {
        let kept = storage::certificate(&wanted);
        kept.prepare()?;
        let stored = read(&kept, &wanted, provider)?;
        let due = stored.as_ref().map_or_else(SystemTime::now, renewal);
        let state = Mutex::new(State { stored, due, problem: None, ended: false });
        Ok(Managed { wanted, kept, state })
    }

    /// The certificate in use.
    pub(super) fn stored(&self) -> Option<Stored> {
        self.state().stored.clone()
    }

    /// Uses no certificate from here on.
    pub(super) fn end(&self) {
        self.state().ended = true;
    }

    pub(super) fn obtaining(&self) -> Obtaining {
        let state = self.state();
        Obtaining {
            directory_url: self.wanted.acme.authority.directory_url.clone(),
            due: state.due,
            problem: state.problem.clone(),
        }
    }

    /// Does what is due when it is due, without an end. At most as many orders as `room` has places run at once.
    pub(super) async fn keep(self: Arc<Managed>, means: Arc<Means>, room: Rc<Semaphore>) {
        let mut failures = 0;
        loop {
            self.until_due().await;
            let Ok(_place) = room.acquire().await else { return }; // never closed
            match self.renew(&means).await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    self.failed(failures, &failure);
                }
            }
        }
    }

    async fn until_due(&self) {
        loop {
            let due = self.state().due;
            match due.duration_since(SystemTime::now()) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(schedule::LONGEST_SLEEP)).await,
                _ => return,
            }
        }
    }

    /// Takes what another process has obtained meanwhile, or else orders.
    async fn renew(&self, means: &Means) -> Result<(), Failure> {
        let lock = self.kept.try_lock()?;
        if let Some(found) = read(&self.kept, &self.wanted, &means.provider)? {
            let due = renewal(&found);
            if due > SystemTime::now() {
                self.take(found, means);
                return Ok(());
            }
        }
        let Some(lock) = lock else {
            tracing::debug!(domains = %self.domains(), "another process orders this certificate");
            self.state().due = SystemTime::now() + ELSEWHERE;
            return Ok(());
        };
        tracing::info!(
            domains = %self.domains(), directory = %self.directory(), challenge = self.wanted.acme.challenge.name(),
            "a certificate is ordered"
        );
        let issued = order(&self.wanted, means).await?;
        let stored = stored::checked(&issued.key, &issued.chain, &self.wanted, &means.provider)
            .map_err(|why| Failure::broken(format!("what the authority issued is of no use: {why}")))?;
        // Kept before it is used: what is shown to clients survives the process.
        self.kept.write(stored::sealed(&issued.key, &issued.chain).as_bytes(), &lock)?;
        self.take(stored, means);
        Ok(())
    }

    fn take(&self, stored: Stored, means: &Means) {
        let due = renewal(&stored);
        // Held while it is put in place, so that whoever ends this knows that nothing comes after.
        let mut state = self.state();
        if state.ended {
            return;
        }
        tracing::info!(
            domains = %self.domains(), directory = %self.directory(), not_after = %date(stored.not_after),
            renewal = %date(due), "a certificate is in use"
        );
        means.certificates.put(&self.wanted.domains, &stored.key);
        *state = State { stored: Some(stored), due, problem: None, ended: false };
    }

    fn failed(&self, failures: u32, failure: &Failure) {
        let now = SystemTime::now();
        let due = schedule::next_try(now, failures, failure, fastrand::f64());
        let left = due.duration_since(now).unwrap_or_default().as_secs();
        let (domains, directory) = (self.domains(), self.directory());
        let again = format!("{failure}; tried again in {left} s, at {}", date(due));
        let mut state = self.state();
        match state.stored.as_ref().map(|stored| stored.not_after) {
            Some(end) if end > now => tracing::warn!(
                %domains, %directory, failures,
                "the certificate, valid until {}, could not be renewed: {again}", date(end)
            ),
            Some(end) => tracing::error!(
                %domains, %directory, failures,
                "the certificate has ended at {} and could not be renewed: {again}", date(end)
            ),
            None => tracing::error!(
                %domains, %directory, failures,
                "there is no certificate, and it could not be obtained: {again}"
            ),
        }
        state.due = due;
        state.problem = Some(failure.to_string());
    }

    fn domains(&self) -> String {
        self.wanted.domains.join(", ")
    }

    fn directory(&self) -> &str {
        &self.wanted.acme.authority.directory_url
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each field is replaced whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept, if it is whole and what is wanted.
fn read(kept: &Kept, wanted: &Wanted, provider: &CryptoProvider) -> Result<Option<Stored>, StorageError> {
    let Some(bytes) = kept.read()? else { return Ok(None) };
    match stored::read(&bytes, wanted, provider) {
        Ok(stored) => Ok(Some(stored)),
        Err(why) => {
            let path = kept.path();
            tracing::warn!(
                "the certificate in `{}` is of no use and is obtained anew: {why}",
                path.display()
            );
            Ok(None)
        }
    }
}

fn renewal(stored: &Stored) -> SystemTime {
    schedule::renewal(stored.not_before, stored.not_after, fastrand::f64())
}

fn date(time: SystemTime) -> httpdate::HttpDate {
    time.into()
}
