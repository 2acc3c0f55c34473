//! A library in this process, and the way back from it.
//!
//! Every library gets a callback function of its own, so a call with the session of another one is noticed. After its
//! `shutdown` nothing of it is called, and what comes from it is refused. It is unloaded then only where nothing of it
//! can run any more: a library of version 2 promises that, and is believed once all threads that have ever called from
//! it are gone. All others stay in memory, since code that a thread stands in must not go away; they are used again
//! where the same file is loaded again.

use super::callback;
use super::here::{Here, here};
use super::library::Library;
use super::misuse::Misuse;
use super::threads::Threads;
use nylon_abi::FfiBuffer;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long a library's `shutdown` may take at least.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// How long the threads of a library may take to end after its `shutdown`.
const LAST_THREADS: Duration = Duration::from_secs(1);
/// Libraries that this process can have at once, those included that cannot be unloaded.
pub(super) const MAX_LIBRARIES: usize = 256;

static LIBRARIES: [AtomicPtr<Mapped>; MAX_LIBRARIES] = [const { AtomicPtr::new(null_mut()) }; MAX_LIBRARIES];

/// A library that was loaded.
pub(super) struct Mapped {
    /// From a box; null once it is unloaded.
    library: AtomicPtr<Library>,
    index: usize,
    /// What the library was loaded from and is.
    origin: Origin,
    /// Who uses it.
    leases: Mutex<Vec<Lease>>,
    /// It is shut down, stays in memory, and may be used again.
    idle: AtomicBool,
    /// The gateway frees what the library hands over.
    frees: bool,
    /// Sessions that are open.
    pub(super) open: AtomicUsize,
    /// No session is opened any more.
    pub(super) ended: AtomicBool,
    /// It is shut down: nothing of it is called.
    down: AtomicBool,
    /// Answers under way to calls that belong to no session.
    strays: AtomicUsize,
    /// Threads of its own that have called.
    threads: Threads,
    pub(super) misuse: Misuse,
}

/// What a library was loaded from and is: also known once it is unloaded.
pub(super) struct Origin {
    pub(super) plugin: String,
    pub(super) file: PathBuf,
    fingerprint: u64,
    pub(super) version: u32,
    go: bool,
    once: bool,
}

impl Origin {
    /// Whether it is better to use it again than to load it once more: that would leave more in memory, or fail.
    fn is_shared(&self) -> bool {
        self.once || self.stays().is_some()
    }

    /// Why it cannot be unloaded, where that is known from the first.
    fn stays(&self) -> Option<&'static str> {
        if self.go {
            return Some("a Go runtime cannot be unloaded");
        }
        let unsure = "a library for version 1 of the ABI does not promise that its threads have ended";
        (self.version < 2).then_some(unsure)
    }
}

/// A host's use of a library.
struct Lease {
    number: u64,
    /// What the library was initialized with for it.
    config: String,
}

/// What a host leaves behind that gives its library back.
pub(super) enum Left {
    /// Nobody: the library is to be shut down.
    Nobody,
    /// A host that came after it.
    Others,
    /// Hosts that came before it, and what the last of them has initialized the library with.
    Earlier(String),
}

/// There is no callback left for one more library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process has {MAX_LIBRARIES} native libraries that cannot be unloaded, one for each load: start the gateway \
     again, or give the plugin `isolation: process`"
)]
pub struct TooManyLibraries;

/// The library behind a callback.
pub(super) fn behind(index: usize) -> Option<&'static Mapped> {
    let record = LIBRARIES.get(index)?.load(Ordering::Acquire);
    // SAFETY: null, or a record from `Mapped::new`, which is never freed.
    unsafe { record.as_ref() }
}

fn all() -> impl Iterator<Item = &'static Mapped> {
    (0..MAX_LIBRARIES).filter_map(behind)
}

impl Mapped {
    /// The record of a library. It stays, small as it is, since calls may look for it at any time.
    pub(super) fn new(
        library: Library,
        plugin: &str,
        frees: bool,
    ) -> Result<&'static Mapped, TooManyLibraries> {
        let mapped = Box::new(Mapped {
            misuse: Misuse::new(library.path()),
            origin: Origin {
                plugin: plugin.to_owned(),
                file: library.path().to_owned(),
                fingerprint: library.fingerprint(),
                version: library.version(),
                go: library.is_go(),
                once: library.is_bound_to_its_place(),
            },
            leases: Mutex::new(Vec::new()),
            idle: AtomicBool::new(false),
            library: AtomicPtr::new(Box::into_raw(Box::new(library))),
            index: 0,
            frees,
            open: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            down: AtomicBool::new(false),
            strays: AtomicUsize::new(0),
            threads: Threads::default(),
        });
        let record = Box::into_raw(mapped);
        for (index, place) in LIBRARIES.iter().enumerate() {
            if place.load(Ordering::Relaxed).is_null() {
                // SAFETY: nobody else knows the record before it stands in its place.
                unsafe { (*record).index = index };
                if place.compare_exchange(null_mut(), record, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    // SAFETY: made above and never freed.
                    return Ok(unsafe { &*record });
                }
            }
        }
        // SAFETY: made above, and in no place: nobody knows it. Its library was never initialized.
        unsafe { Box::from_raw(record).unload() };
        Err(TooManyLibraries)
    }

    /// A library that this process has already and that is to be used again instead of being loaded once more: the one
    /// of `before`, or one that nobody uses any more. Only where loading it once more would leave more in memory, or is
    /// not possible.
    pub(super) fn again(
        file: &Path,
        fingerprint: u64,
        frees: bool,
        before: Option<&'static Mapped>,
    ) -> Option<&'static Mapped> {
        let fits = |mapped: &&'static Mapped| {
            let origin = &mapped.origin;
            (&*origin.file, origin.fingerprint, mapped.frees) == (file, fingerprint, frees)
        };
        if let Some(before) = before.filter(fits).filter(|before| before.origin.is_shared()) {
            return Some(before);
        }
        let claim = |mapped: &&'static Mapped| {
            mapped.idle.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let found = all().filter(fits).find(claim)?;
        found.ended.store(false, Ordering::SeqCst);
        found.down.store(false, Ordering::SeqCst);
        Some(found)
    }

    /// Another library in Go that this process has.
    pub(super) fn other_in_go(&self) -> Option<&'static Mapped> {
        all().find(|other| self.origin.go && other.origin.go && !std::ptr::eq(*other, self))
    }

    /// Whether it is shut down and stays.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A host begins to use the library.
    pub(super) fn enter(&self, config: &str) -> u64 {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        self.leases().push(Lease { number, config: config.to_owned() });
        number
    }

    /// A host gives the library back.
    pub(super) fn leave(&self, number: u64) -> Left {
        let mut leases = self.leases();
        let was_last = leases.last().is_some_and(|lease| lease.number == number);
        leases.retain(|lease| lease.number != number);
        match leases.last() {
            None => Left::Nobody,
            Some(_) if !was_last => Left::Others,
            Some(before) => Left::Earlier(before.config.clone()),
        }
    }

    fn leases(&self) -> MutexGuard<'_, Vec<Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The library. Only between `new` and the end of `shut_down`.
    fn loaded(&self) -> &Library {
        // SAFETY: set by `new`; it is unloaded by `shut_down` alone, after the last use: no session is open, and strays
        // look at `down` first.
        unsafe { &*self.library.load(Ordering::Relaxed) }
    }

    /// A look at the library while it is being started.
    pub(super) fn starting<R>(&self, look: impl FnOnce(&Library) -> R) -> R {
        here(|here| here.inside(0, || look(self.loaded())))
    }

    /// Shuts the library down, once no session is open, and unloads it where that is safe. Waits until `until` for calls
    /// that are under way.
    pub(super) fn shut_down(&'static self, until: Instant) {
        self.down.store(true, Ordering::SeqCst);
        let busy = || self.strays.load(Ordering::SeqCst) > 0 || self.open.load(Ordering::Acquire) > 0;
        while busy() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !self.told_to_stop(until.max(Instant::now() + SHUTDOWN)) {
            let (plugin, file) = (&self.origin.plugin, self.origin.file.display());
            return tracing::error!(
                plugin,
                "`shutdown` of {file} does not return: the library stays in memory"
            );
        }
        let stays = self.origin.stays().or_else(|| {
            let gone = self.threads.wait(Instant::now() + LAST_THREADS) && !busy();
            (!gone).then_some("threads of it still run after its `shutdown`")
        });
        let Some(why) = stays else {
            self.unload();
            return LIBRARIES[self.index].store(null_mut(), Ordering::Release);
        };
        let (plugin, file) = (&self.origin.plugin, self.origin.file.display());
        tracing::info!(plugin, "{file} is shut down, but stays in memory: {why}");
        if !busy() {
            self.idle.store(true, Ordering::Release);
        }
    }

    /// Calls the library's `shutdown` on a thread of its own, since nothing else could end the wait for it. False: it
    /// has not returned in time.
    fn told_to_stop(&'static self, until: Instant) -> bool {
        let (done, told) = mpsc::channel();
        let stop = move || {
            here(|here| here.inside(0, || self.loaded().shutdown()));
            // Nobody may wait any more.
            let _ = done.send(());
        };
        match std::thread::Builder::new().name("nylon-shutdown".to_owned()).spawn(stop) {
            Ok(_) => told.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok(),
            Err(_) => {
                here(|here| here.inside(0, || self.loaded().shutdown()));
                true
            }
        }
    }

    fn unload(&self) {
        let library = self.library.swap(null_mut(), Ordering::AcqRel);
        if !library.is_null() {
            // SAFETY: from `Box::into_raw` in `new`, and taken out once.
            drop(unsafe { Box::from_raw(library) });
        }
    }

    /// A call has come from the library.
    pub(super) fn called(&self, here: &Here) {
        if !here.is_inside() {
            self.threads.note(here);
        }
    }

    /// Opens a session. False: there is no such entry.
    pub(super) fn register(&self, here: &Here, sid: u32, entry: &str) -> bool {
        callback::number(self.index)
            .is_some_and(|call| here.inside(0, || self.loaded().register(sid, entry, call)))
    }

    /// Calls the library for a session, on a thread of the gateway's.
    pub(super) fn event_inline(&self, here: &Here, message: &FfiBuffer) {
        here.inside(message.sid, || self.loaded().event(message));
    }

    /// Calls the library for a session, on the thread that it has called on just now.
    pub(super) fn event(&self, message: &FfiBuffer) {
        self.loaded().event(message);
    }

    /// Calls the library on the thread that it has called on just now, where no session keeps it from being shut down.
    pub(super) fn event_stray(&self, message: &FfiBuffer) {
        self.strays.fetch_add(1, Ordering::SeqCst);
        if !self.down.load(Ordering::SeqCst) {
            self.loaded().event(message);
        }
        self.strays.fetch_sub(1, Ordering::SeqCst);
    }

    /// Tells that a session is over.
    pub(super) fn close(&self, sid: u32) {
        here(|here| here.inside(0, || self.loaded().close(sid)));
    }

    /// Gives back what a message of the library pointed to, where that is the gateway's to do.
    pub(super) fn done_with(&self, payload: *const u8) {
        if self.frees && !payload.is_null() {
            // Also after the shutdown: it is the library that calls, so its code is there.
            self.loaded().free(payload);
        }
    }
}
