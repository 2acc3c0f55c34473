//! Watches the files of certificates, and serves what they hold from the next handshake on.
//!
//! They are looked at, not waited for ([`Stamp`]). Certificate and key are written one after the other, so what has changed
//! is read once it has stayed the same from one look to the next. A certificate that cannot be served stays out; the one
//! before stays in, and the log says why.

use super::files::{FromFiles, Named};
use super::store::CertStore;
use crate::stamp::{LOOK_EVERY, Stamp};
use nylon_config::certificates;
use nylon_config::plan::CertificateFiles;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// A thread that watches the files of one plan's certificates, until this is dropped.
pub(crate) struct Watch {
    /// Nothing is sent: that it is gone tells the thread to end.
    stop: Option<Sender<()>>,
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
            .filter_map(|Named { domains, from }| Some(Watched::new(domains, from?)))
            .collect();
        if watched.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("nylon-certs".to_owned())
            .spawn(move || run(watched, &store, &stopped))?;
        Ok(Some(Watch { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        // One that has ended by itself is joined like any other.
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches certificates panicked");
        }
    }
}

fn run(mut watched: Vec<Watched>, store: &CertStore, stopped: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_EVERY) {
        for one in &mut watched {
            if one.has_settled() {
                one.read(store);
            }
        }
    }
}

/// A certificate, and what is wrong with its files now.
struct Watched {
    domains: Vec<String>,
    from: FromFiles,
    seen: Vec<Option<Stamp>>,
    /// What was seen last has not been read yet.
    is_new: bool,
    wrong: Option<String>,
}

fn stamps(files: &CertificateFiles) -> Vec<Option<Stamp>> {
    [&files.cert, &files.key].into_iter().chain(&files.chain).map(|file| Stamp::of(file)).collect()
}

impl Watched {
    fn new(domains: Vec<String>, from: FromFiles) -> Watched {
        // They may have changed since they were read.
        let seen = stamps(&from.files);
        Watched { domains, from, seen, is_new: true, wrong: None }
    }

    /// Whether the files have changed, but not since the look before.
    fn has_settled(&mut self) -> bool {
        let now = stamps(&self.from.files);
        if now != self.seen {
            (self.seen, self.is_new) = (now, true);
            return false;
        }
        std::mem::take(&mut self.is_new)
    }

    /// Reads the files, and serves what is new in them.
    fn read(&mut self, store: &CertStore) {
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
