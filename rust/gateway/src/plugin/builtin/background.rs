//! What built-ins do beside requests: fetching keys, speaking to a store, looking after files, verifying passwords.
//!
//! It runs on one thread with a runtime of its own, since a data-plane thread must neither block nor be kept alive by it.
//! The server owns the thread, and whoever needs a task owns the task: it ends when its owner is dropped.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

/// Threads for what blocks: files, names, passwords.
const BLOCKING_THREADS: usize = 16;
/// Heavy jobs that wait or run; beyond them new ones are refused.
const MAX_HEAVY: usize = 64;
/// How long the end of the thread waits for what blocks: a password takes no longer than seconds.
const END: Duration = Duration::from_secs(1);

/// The thread, and the way to it.
pub(crate) struct Background {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    heavy: Heavy,
}

/// A task; dropping this ends it.
pub(crate) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread or no descriptors left.
    pub(crate) fn start() -> io::Result<Background> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("nylon-blocking")
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("nylon-builtin".to_owned()).spawn(move || {
            // Told or abandoned: both are the end.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(END);
        })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = Arc::new(Semaphore::new((cores / 2).max(1)));
        let heavy = Heavy { handle: handle.clone(), places: Arc::new(Semaphore::new(MAX_HEAVY)), slots };
        Ok(Background { handle, stop: Some(stop), thread: Some(thread), heavy })
    }

    /// Runs `work` until it ends or the task is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(self.handle.spawn(work).abort_handle())
    }

    /// Where jobs run that keep a processor busy.
    pub(crate) fn heavy(&self) -> &Heavy {
        &self.heavy
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the built-ins panicked");
        }
    }
}

/// Runs jobs that keep a processor busy for long, on half of the processors at most and with a bounded number of those that
/// wait, so that requests go on beside them.
#[derive(Clone)]
pub(crate) struct Heavy {
    handle: Handle,
    /// For those that wait and those that run.
    places: Arc<Semaphore>,
    slots: Arc<Semaphore>,
}

/// Why a job did not run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotRun {
    /// Too many wait already.
    Full,
    /// The gateway is being stopped, or the job panicked.
    Ended,
}

impl Heavy {
    /// Runs `job` when its turn comes. `ready` is asked just before: what it has is taken instead. Whoever gives up
    /// waiting frees a place at once, unless the job runs already.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        ready: impl FnOnce() -> Option<T>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotRun> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| NotRun::Full)?;
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| NotRun::Ended)?;
        if let Some(known) = ready() {
            return Ok(known);
        }
        let job = self.handle.spawn_blocking(move || {
            let result = job();
            drop((place, slot));
            result
        });
        job.await.map_err(|_| NotRun::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn jobs_beyond_the_bound_are_refused_and_places_come_back() {
        let background = Background::start().expect("a thread");
        let gate = Arc::new(Barrier::new(2));
        let heavy = background.heavy().clone();
        let slots = heavy.slots.available_permits();
        let taken = heavy.slots.clone().acquire_many_owned((slots - 1) as u32).await.expect("slots");
        let first = tokio::spawn({
            let (heavy, gate) = (heavy.clone(), gate.clone());
            async move { heavy.run(|| None, move || gate.wait().is_leader()).await.is_ok() }
        });
        while heavy.slots.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let waiting: Vec<_> = (1..MAX_HEAVY)
            .map(|_| {
                let heavy = heavy.clone();
                tokio::spawn(async move { heavy.run(|| None, || ()).await })
            })
            .collect();
        while heavy.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = tokio::time::timeout(Duration::from_secs(10), heavy.run(|| None, || ())).await;
        assert_eq!(refused, Ok(Err(NotRun::Full)));
        waiting[0].abort();
        while heavy.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        tokio::task::spawn_blocking(move || gate.wait()).await.expect("no panic");
        assert!(first.await.expect("no panic"));
        for job in waiting.into_iter().skip(1) {
            job.await.expect("no panic").expect("it had a place");
        }
        drop(taken);
        assert_eq!(heavy.run(|| Some(1), || 2).await, Ok(1), "what is known is not worked out again");
        assert_eq!(heavy.places.available_permits(), MAX_HEAVY);
    }

    #[test]
    fn a_task_ends_with_its_owner_and_the_thread_with_the_background() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let background = Background::start().expect("a thread");
        let ended = Arc::new(AtomicUsize::new(0));
        let forever = || {
            let counted = Counted(ended.clone());
            background.spawn(async move {
                std::future::pending::<()>().await;
                drop(counted);
            })
        };
        let (one, _other) = (forever(), forever());
        drop(one);
        while ended.load(Ordering::SeqCst) < 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(background);
        assert_eq!(ended.load(Ordering::SeqCst), 2);
    }
}
