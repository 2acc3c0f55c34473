//! Certificates from an authority that issues them by itself (ACME, RFC 8555).
//!
//! One thread of its own, with a task for each certificate, does what takes time: nothing here runs on a data-plane
//! thread. What is stored is in use before the gateway listens, so a start needs no network; and what is missing holds
//! up nobody, since until it is there only its own domains have no certificate. A reload keeps the tasks of all
//! certificates that are asked for as before.

/// The directory where accounts and certificates are kept.
mod storage;
/// A certificate with its key, as one file.
mod stored;
/// What went wrong.
mod failure;
/// The HTTP client for an authority.
mod client;
/// The account at an authority.
mod account;
/// What proves the control over a domain.
mod challenges;
/// From a wish to a certificate.
mod order;
/// When what is done.
mod schedule;
/// One certificate and its life.
mod keeper;

pub(crate) use challenges::HttpAnswers;
pub use keeper::Obtaining;
pub use storage::StorageError;

use crate::tls::CertStore;
use keeper::Managed;
use nylon_config::plan;
use order::Means;
use rustls::crypto::ring;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

/// Orders that run at once.
const ORDERS: usize = 4;

/// A certificate that a plan asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The names that it is for. Never empty, no wildcards.
    pub(crate) domains: Vec<String>,
    /// How it is obtained.
    pub(crate) acme: plan::Acme,
}

/// All certificates of a gateway that are obtained by ACME, and the thread that sees to them.
pub(crate) struct Acme {
    means: Arc<Means>,
    managed: Mutex<Vec<Arc<Managed>>>,
    thread: Mutex<Option<Thread>>,
}

/// The thread ends when the sender is dropped.
struct Thread {
    wanted: watch::Sender<Vec<Arc<Managed>>>,
    handle: JoinHandle<()>,
}

/// What a plan asks for, loaded.
pub(crate) struct Prepared(Vec<Arc<Managed>>);

impl Acme {
    /// Nothing, for now.
    pub(crate) fn new(answers: Arc<HttpAnswers>, certificates: Arc<CertStore>) -> Acme {
        let provider = Arc::new(ring::default_provider());
        Acme {
            means: Arc::new(Means { answers, certificates, provider }),
            managed: Mutex::default(),
            thread: Mutex::default(),
        }
    }

    /// Loads what is `wanted` and not there yet. Nothing is changed.
    ///
    /// # Errors
    /// The directory is of no use.
    pub(crate) fn prepare(&self, wanted: impl Iterator<Item = Wanted>) -> Result<Prepared, StorageError> {
        let now = locked(&self.managed).clone();
        let managed = wanted.map(|wanted| match now.iter().find(|managed| managed.wanted == wanted) {
            Some(kept) => Ok(kept.clone()),
            None => Managed::load(wanted, &self.means.provider).map(Arc::new),
        });
        managed.collect::<Result<_, _>>().map(Prepared)
    }

    /// Puts what was prepared into the place of what was asked for before: what is stored is in use when this
    /// returns, everything else is begun or ended. `replace` tells the store which names there are now.
    ///
    /// # Errors
    /// The thread cannot be started; then nothing is obtained or renewed.
    pub(crate) fn apply(&self, prepared: Prepared, replace: impl FnOnce()) -> io::Result<()> {
        let stays = |managed: &Arc<Managed>| prepared.0.iter().any(|wanted| Arc::ptr_eq(wanted, managed));
        locked(&self.managed).iter().filter(|managed| !stays(managed)).for_each(|managed| managed.end());
        replace();
        for managed in &prepared.0 {
            if let Some(stored) = managed.stored() {
                self.means.certificates.put(&managed.wanted.domains, &stored.key);
            }
        }
        locked(&self.managed).clone_from(&prepared.0);
        let mut thread = locked(&self.thread);
        match &*thread {
            // It ends only when it is told to, so somebody receives it.
            Some(thread) => drop(thread.wanted.send(prepared.0)),
            None if prepared.0.is_empty() => {}
            None => {
                let (wanted, receive) = watch::channel(prepared.0);
                let means = self.means.clone();
                let body = move || run(receive, &means);
                let handle = std::thread::Builder::new().name("nylon-acme".to_owned()).spawn(body)?;
                *thread = Some(Thread { wanted, handle });
            }
        }
        Ok(())
    }

    /// What is done next about what is `wanted`.
    pub(crate) fn obtaining(&self, wanted: &Wanted) -> Option<Obtaining> {
        locked(&self.managed)
            .iter()
            .find(|managed| managed.wanted == *wanted)
            .map(|managed| managed.obtaining())
    }

    /// Ends the thread. An order that runs is given up.
    pub(crate) fn stop(&self) {
        let Some(Thread { wanted, handle }) = locked(&self.thread).take() else { return };
        drop(wanted);
        if handle.join().is_err() {
            tracing::error!("the thread that obtains certificates panicked");
        }
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut wanted: watch::Receiver<Vec<Arc<Managed>>>, means: &Arc<Means>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!("no certificates can be obtained: {error}"),
    };
    runtime.block_on(async {
        let room = Rc::new(Semaphore::new(ORDERS));
        let mut tasks: Vec<(Arc<Managed>, AbortHandle)> = Vec::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            tasks.retain(|(managed, task)| {
                let stays = now.iter().any(|wanted| Arc::ptr_eq(wanted, managed));
                if !stays {
                    task.abort();
                }
                // A task ends by itself only in a panic: a reload begins it anew.
                stays && !task.is_finished()
            });
            for managed in now {
                if !tasks.iter().any(|(known, _)| Arc::ptr_eq(known, &managed)) {
                    let task = managed.clone().keep(means.clone(), room.clone());
                    tasks.push((managed, tokio::task::spawn_local(task).abort_handle()));
                }
            }
            if wanted.changed().await.is_err() {
                return;
            }
        }
    });
    // A name that is being resolved holds up no stop.
    runtime.shutdown_background();
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each value is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
