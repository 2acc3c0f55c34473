//! The data plane as a whole: it binds the addresses, starts a thread per core, swaps their plan and stops them all.

/// From a listening socket to a task per connection.
mod accept;
/// The addresses that are listened on.
mod listeners;
/// One data-plane thread.
mod thread;

use crate::acme::{self, Acme, HttpAnswers, Wanted};
use crate::pipeline::LivePlan;
use crate::plugin::{PluginHost, builtin};
use crate::tls::{self, CertificateReport, Certificates, Tls, Watch};
use crate::upstream::Background;
use arc_swap::ArcSwap;
use listeners::{Change, Listening};
use nylon_config::plan::{Certificate, CertificateSource};
use nylon_config::{Diagnostic, Plan};
use nylon_core::Scheme;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use thread::Command;
use tokio::sync::{Semaphore, mpsc};

/// Runs the body of each data-plane thread; a binding keeps its thread state around it.
pub type ThreadHook = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Why the data plane did not start, or did not take another plan.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The plan names something that a plugin lacks.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Plan(Vec<Diagnostic>),
    /// An address cannot be had.
    #[error("cannot listen on {address}: {source}{}", listen_hint(source))]
    Listen {
        /// The address, as configured.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Certificates in the plan cannot be read any more.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Certificates(Vec<Diagnostic>),
    /// The directory of certificates that are obtained by ACME is of no use.
    #[error("{0}; it is the one that `acme` names")]
    Acme(#[source] acme::StorageError),
    /// There are no keys for tickets.
    #[error("cannot prepare for TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// A thread cannot be started.
    #[error("cannot start a data-plane thread: {0}")]
    Thread(#[source] io::Error),
    /// Names of endpoints do not resolve, and must.
    #[error("{} (dns.must_resolve)", .0.join("; "))]
    Names(Vec<String>),
}

/// What to do about an address that cannot be had.
fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process, perhaps another Nylon, listens there",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; it is no address of this machine",
        _ => "",
    }
}

/// A running data plane.
pub struct Server {
    live: Arc<ArcSwap<LivePlan>>,
    tls: Arc<Tls>,
    watch: Mutex<Option<Watch>>,
    acme: Acme,
    listening: Mutex<Vec<Listening>>,
    threads: Mutex<Vec<Thread>>,
    background: Background,
    /// After all that use it.
    builtins: builtin::State,
}

struct Thread {
    /// Unbounded, since a sender never waits: one message per reload, and reloads wait for each other.
    commands: mpsc::UnboundedSender<Command>,
    handle: JoinHandle<()>,
}

/// A plan that was replaced. It is gone once the last exchange that began under it has ended.
pub struct Replaced(Weak<LivePlan>);

impl Replaced {
    /// Whether an exchange may still run under it.
    pub fn is_in_use(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Server {
    /// Starts the data plane. `hosts` are in the order of `plan.plugins`.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(
        plan: Arc<Plan>,
        hosts: Vec<Arc<dyn PluginHost>>,
        hook: Option<ThreadHook>,
    ) -> Result<Server, StartError> {
        let builtins = builtin::State::default();
        let live = LivePlan::build(plan.clone(), hosts, None, &builtins).map_err(StartError::Plan)?;
        let live = Arc::new(ArcSwap::from_pointee(live));
        let count =
            plan.runtime.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
        let count = count.unwrap_or(1);
        let certificates = tls::read(&plan).map_err(StartError::Certificates)?;
        let tls = Arc::new(Tls::new().map_err(StartError::Tls)?);
        let answers = Arc::new(HttpAnswers::default());
        let acme = Acme::new(answers.clone(), tls.store.clone());
        let obtained = acme.prepare(plan.certificates.iter().filter_map(wanted)).map_err(StartError::Acme)?;
        let change = Change::prepare(&[], &plan, count)?;
        let room = Arc::new(Semaphore::new(plan.limits.max_connections));
        let background = Background::default();
        tend(&background, &live.load())?;
        let server = Server {
            live: live.clone(),
            tls: tls.clone(),
            watch: Mutex::default(),
            acme,
            listening: Mutex::default(),
            threads: Mutex::default(),
            background,
            builtins,
        };
        server.certify(certificates, obtained)?;
        for number in 0..count {
            let (live, tls, room, hook) = (live.clone(), tls.clone(), room.clone(), hook.clone());
            let answers = answers.clone();
            let (commands, told) = mpsc::unbounded_channel();
            let body = move || thread::run(live, tls, answers, room, told);
            let thread =
                std::thread::Builder::new().name(format!("nylon-{number}")).spawn(move || match hook {
                    Some(hook) => hook(Box::new(body)),
                    None => body(),
                });
            match thread {
                Ok(handle) => locked(&server.threads).push(Thread { commands, handle }),
                Err(error) => {
                    server.stop(Duration::ZERO);
                    return Err(StartError::Thread(error));
                }
            }
        }
        server.apply(change);
        Ok(server)
    }

    /// Puts another plan into the place of the live one, at once and as a whole. Exchanges that have begun keep the
    /// plan that they began with. Addresses that stand in both plans are never closed.
    ///
    /// # Errors
    /// [`StartError`]; the plan before goes on as if nothing had happened.
    pub fn switch(&self, plan: Arc<Plan>, hosts: Vec<Arc<dyn PluginHost>>) -> Result<Replaced, StartError> {
        let before = self.live.load_full();
        let next = LivePlan::build(plan.clone(), hosts, Some(&before), &self.builtins);
        let next = next.map_err(StartError::Plan)?;
        let next = Arc::new(next);
        let certificates = tls::read(&plan).map_err(StartError::Certificates)?;
        let obtained =
            self.acme.prepare(plan.certificates.iter().filter_map(wanted)).map_err(StartError::Acme)?;
        let now = locked(&self.listening).clone();
        let change = Change::prepare(&now, &plan, locked(&self.threads).len())?;
        if let Err(error) = tend(&self.background, &next).and_then(|()| self.certify(certificates, obtained))
        {
            // The plan before goes on; its names have been resolved before.
            let _ = self.background.tend(&before.services, &before.plan.dns);
            return Err(error);
        }
        self.live.store(next);
        self.apply(change);
        Ok(Replaced(Arc::downgrade(&before)))
    }

    /// Serves these certificates, watches their files, and has the others obtained.
    fn certify(&self, certificates: Certificates, obtained: acme::Prepared) -> Result<(), StartError> {
        let mut watch = locked(&self.watch);
        // It could put one back that is no longer wanted.
        *watch = None;
        let names = certificates.iter().map(|named| (&named.domains[..], named.certified()));
        self.acme.apply(obtained, || self.tls.store.replace(names)).map_err(StartError::Thread)?;
        *watch = Watch::start(certificates, self.tls.store.clone()).map_err(StartError::Thread)?;
        Ok(())
    }

    /// Gives the threads their new sockets, and tells them what to close and that the plan may be another.
    fn apply(&self, change: Change) {
        change.speak();
        let Change { after, added, removed, .. } = change;
        *locked(&self.listening) = after;
        let removed: Vec<u64> = removed.iter().map(|listening| listening.id).collect();
        let mut added: Vec<_> =
            added.into_iter().map(|bound| (bound.listening, bound.sockets.into_iter())).collect();
        for thread in &*locked(&self.threads) {
            let added = added
                .iter_mut()
                .filter_map(|(known, sockets)| Some((known.id, sockets.next()?, known.speaks.clone())));
            let switch = Command::Switch { added: added.collect(), removed: removed.clone() };
            if thread.commands.send(switch).is_err() {
                tracing::error!("a data-plane thread has ended by itself");
            }
        }
    }

    /// The addresses listened on, port 0 resolved, in the plan's order: those for plain HTTP, then those for HTTPS.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        locked(&self.listening).iter().map(|listening| listening.actual).collect()
    }

    /// The same with what is spoken there.
    pub fn listeners(&self) -> Vec<(Scheme, SocketAddr)> {
        let scheme =
            |listening: &Listening| if listening.speaks.tls() { Scheme::Https } else { Scheme::Http };
        locked(&self.listening).iter().map(|listening| (scheme(listening), listening.actual)).collect()
    }

    /// How the certificates of the live plan stand, in its order.
    pub fn certificates(&self) -> Vec<CertificateReport> {
        let live = self.live.load();
        let report = |certificate| {
            let obtaining = wanted(certificate).and_then(|wanted| self.acme.obtaining(&wanted));
            CertificateReport::of(certificate, &self.tls.store, obtaining)
        };
        live.plan.certificates.iter().map(report).collect()
    }

    /// Each service over HTTP with its endpoints, for people.
    pub fn services(&self) -> Vec<serde_json::Value> {
        self.live.load().services.iter().map(|service| service.figures()).collect()
    }

    /// Stops accepting, lets open requests finish within `grace`, cuts the rest, and joins all threads.
    pub fn stop(&self, grace: Duration) {
        self.acme.stop();
        let threads = std::mem::take(&mut *locked(&self.threads));
        for thread in &threads {
            // One that has ended by itself is joined below like the others.
            let _ = thread.commands.send(Command::Stop(grace));
        }
        for thread in threads {
            if thread.handle.join().is_err() {
                tracing::error!("a data-plane thread panicked");
            }
        }
        self.background.stop();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// What is to be obtained by ACME, if it is.
fn wanted(certificate: &Certificate) -> Option<Wanted> {
    match &certificate.source {
        CertificateSource::Acme(acme) => {
            Some(Wanted { domains: certificate.domains.clone(), acme: acme.clone() })
        }
        CertificateSource::Custom(_) => None,
    }
}

/// Has the endpoints of a plan looked after, and waits until each name was tried once, so that the first requests find
/// addresses.
fn tend(background: &Background, live: &LivePlan) -> Result<(), StartError> {
    let dns = &live.plan.dns;
    background.tend(&live.services, dns).map_err(StartError::Thread)?.wait(dns.timeout);
    let unresolved: Vec<_> = live.services.iter().flat_map(|service| service.unresolved()).collect();
    if dns.must_resolve && !unresolved.is_empty() {
        return Err(StartError::Names(unresolved));
    }
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each value is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
