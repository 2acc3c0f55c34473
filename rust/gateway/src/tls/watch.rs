//! Watches the files of certificates, and serves what they hold from the next handshake on.
//!
//! Directories are watched, not files: who replaces a file makes another one, and where it is a link, it is the link
//! or a directory on its way that changes (Kubernetes renames one link for all files of a secret). What changed is of no
//! interest: after a moment of quiet the files are read, and what is in them is compared with what is served. A
//! certificate that cannot be served stays out; the one before stays in, and the log says why.

use super::files::{FromFiles, Named};
use super::store::CertStore;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use nylon_config::certificates;
use nylon_config::plan::CertificateFiles;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Certificate and key are written one after the other: so long nothing must have changed,
const QUIET: Duration = Duration::from_millis(200);
/// unless something always does.
const PATIENCE: Duration = Duration::from_secs(2);
/// Some file systems tell of no change: everything is looked at this often anyway.
const ROUNDS: Duration = Duration::from_secs(60);

/// What the thread is told.
enum Told {
    Changed,
    Stop,
}

/// A thread that watches the files of one plan's certificates, until this is dropped.
pub(crate) struct Watch {
    tell: SyncSender<Told>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the files of `all`, as they were read. `None`: there are none.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(all: Vec<Named>, store: Arc<CertStore>) -> std::io::Result<Option<Watch>> {
        let watched: Vec<Watched> = all
            .into_iter()
            .filter_map(|Named { domains, from }| Some(Watched { domains, from: from?, wrong: None }))
            .collect();
        if watched.is_empty() {
            return Ok(None);
        }
        // One change is as good as many, and a stop waits for its place.
        let (tell, told) = mpsc::sync_channel(1);
        let changed = tell.clone();
        let thread = std::thread::Builder::new()
            .name("nylon-certs".to_owned())
            .spawn(move || Watching { watched, store, directories: HashSet::new() }.run(&changed, &told))?;
        Ok(Some(Watch { tell, thread: Some(thread) }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // One that has ended by itself is joined like any other.
        let _ = self.tell.send(Told::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches certificates panicked");
        }
    }
}

/// A certificate, and what is wrong with its files now.
struct Watched {
    domains: Vec<String>,
    from: FromFiles,
    wrong: Option<String>,
}

struct Watching {
    watched: Vec<Watched>,
    store: Arc<CertStore>,
    directories: HashSet<PathBuf>,
}

impl Watching {
    fn run(mut self, changed: &SyncSender<Told>, told: &Receiver<Told>) {
        let changed = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is an event too, and it is what we do.
            let of_interest =
                event.as_ref().map_or(true, |event| !matches!(event.kind, EventKind::Access(_)));
            if of_interest && let Err(TrySendError::Disconnected(_)) = changed.try_send(Told::Changed) {
                tracing::debug!("a certificate changed while nobody watches any more");
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(why) => {
                tracing::warn!(
                    "certificates are looked at once a minute only: the system tells of no changes: {why}"
                );
                None
            }
        };
        loop {
            // Before the files are read: what changes while they are is told of.
            if let Some(watcher) = &mut watcher {
                self.watch(watcher);
            }
            for watched in &mut self.watched {
                watched.look(&self.store);
            }
            match told.recv_timeout(ROUNDS) {
                Ok(Told::Changed) if is_quiet(told) => {}
                Err(RecvTimeoutError::Timeout) => {}
                _ => return,
            }
        }
    }

    /// Watches the directories that the files are in, and those that links on the way to them lead to now.
    fn watch(&mut self, watcher: &mut RecommendedWatcher) {
        let directories: HashSet<PathBuf> =
            self.watched.iter().flat_map(|one| directories(&one.from.files)).collect();
        for gone in self.directories.difference(&directories) {
            // A directory that is no more is not watched any more either.
            let _ = watcher.unwatch(gone);
        }
        self.directories = directories
            .into_iter()
            .filter(|directory| {
                let watched = watcher.watch(directory, RecursiveMode::NonRecursive);
                if let Err(why) = &watched {
                    tracing::debug!("cannot watch {}: {why}", directory.display());
                }
                watched.is_ok()
            })
            .collect();
    }
}

/// Waits until nothing changes for a moment. False: it is time to stop.
fn is_quiet(told: &Receiver<Told>) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        match told.recv_timeout(QUIET) {
            Ok(Told::Changed) if Instant::now() < until => {}
            Ok(Told::Changed) | Err(RecvTimeoutError::Timeout) => return true,
            Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn directories(files: &CertificateFiles) -> Vec<PathBuf> {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let all = [&files.cert, &files.key].into_iter().chain(&files.chain);
    all.flat_map(|file| [parent(file), file.canonicalize().ok().as_deref().and_then(parent)])
        .flatten()
        .collect()
}

impl Watched {
    /// Reads the files, and serves what is new in them.
    fn look(&mut self, store: &CertStore) {
        let domains = self.domains.join(", ");
        let loaded = match certificates::load(&self.from.files) {
            Ok(loaded) => loaded,
            Err(why) => {
                let why = why.to_string();
                if self.wrong.as_ref() != Some(&why) {
                    tracing::error!("the certificate for {domains} stays the one before: {why}");
                }
                self.wrong = Some(why);
                return;
            }
        };
        self.wrong = None;
        if loaded.certified.cert == self.from.certified.cert {
            return;
        }
        store.put(&self.domains, &loaded.certified);
        self.from.certified = loaded.certified;
        let file = self.from.files.cert.display();
        tracing::info!("the certificate for {domains} is another now, from {file}");
        if let Some(problem) = loaded.about.problem(SystemTime::now()) {
            tracing::warn!("the certificate in `{file}` {problem}: clients will refuse it");
        }
        for domain in self.domains.iter().filter(|domain| !loaded.about.covers(domain)) {
            tracing::warn!("the certificate in `{file}` does not cover `{domain}`: clients will refuse it");
        }
    }
}
