//! What a reload has replaced lives on for the exchanges that began with it, and ends when the last of them does.
//!
//! A host may belong to several plans. It ends once the live plan lacks it and no plan that has it is in use, or once
//! the time that the configuration gives is over. One thread sees to that, which exists only while something waits.

use nylon_gateway::plugin::PluginHost;
use nylon_gateway::server::Replaced;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the thread looks whether a plan is still in use.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All plans of one gateway that were replaced.
#[derive(Default)]
pub(super) struct Retirement {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    hurry: Condvar,
}

#[derive(Default)]
struct State {
    live: Vec<Arc<dyn PluginHost>>,
    retired: Vec<Retired>,
    /// The gateway stops: nobody is waited for any more.
    hurrying: bool,
    /// Whether the thread looks after `retired`.
    attended: bool,
}

struct Retired {
    replaced: Replaced,
    hosts: Vec<Arc<dyn PluginHost>>,
    until: Instant,
    /// What the hosts' own end may take.
    grace: Duration,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change below is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Retirement {
    /// Takes over a plan that `live` has replaced: for at most `time` its hosts wait for their exchanges.
    pub(super) fn take(
        &self,
        replaced: Replaced,
        hosts: Vec<Arc<dyn PluginHost>>,
        live: Vec<Arc<dyn PluginHost>>,
        time: Duration,
        grace: Duration,
    ) {
        let mut state = self.shared.state();
        state.live = live;
        state.retired.push(Retired { replaced, hosts, until: Instant::now() + time, grace });
        if std::mem::replace(&mut state.attended, true) {
            return;
        }
        drop(state);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = thread.take() {
            join(before);
        }
        let shared = self.shared.clone();
        match std::thread::Builder::new().name("nylon-retire".to_owned()).spawn(move || attend(&shared)) {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                // They end with the gateway, or with a later reload.
                self.shared.state().attended = false;
                tracing::error!("cannot start the thread that ends replaced plugins: {error}");
            }
        }
    }

    /// Plans that were replaced and are still in use, or whose plugins have not ended yet.
    pub(super) fn waiting(&self) -> usize {
        self.shared.state().retired.len()
    }

    /// Ends all that waits, now.
    pub(super) fn finish(&self) {
        self.shared.state().hurrying = true;
        self.shared.hurry.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread {
            Some(thread) => join(thread),
            None => attend(&self.shared),
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("the thread that ends replaced plugins panicked");
    }
}

/// Looks after the replaced plans until none is left.
fn attend(shared: &Shared) {
    loop {
        let (ending, grace) = shared.state().take_unused();
        for host in ending {
            host.shutdown(grace);
        }
        let mut state = shared.state();
        state.retired.retain(|retired| !retired.hosts.is_empty());
        if state.retired.is_empty() {
            state.attended = false;
            return;
        }
        let waited = shared.hurry.wait_timeout_while(state, LOOK_EVERY, |state| !state.hurrying);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    /// The hosts that nobody uses any more. A plan whose time has come keeps none.
    fn take_unused(&mut self) -> (Vec<Arc<dyn PluginHost>>, Duration) {
        let now = Instant::now();
        let mut loose: Vec<Arc<dyn PluginHost>> = Vec::new();
        let mut grace = Duration::ZERO;
        for retired in &mut self.retired {
            let in_use = retired.replaced.is_in_use();
            if in_use && now < retired.until && !self.hurrying {
                continue;
            }
            if in_use && !self.hurrying {
                tracing::warn!(
                    "exchanges of a plan that was replaced are still open: its plugins end all the same"
                );
            }
            grace = grace.max(retired.grace);
            loose.append(&mut retired.hosts);
        }
        let held = |host: &Arc<dyn PluginHost>| {
            let all = self.live.iter().chain(self.retired.iter().flat_map(|retired| &retired.hosts));
            all.into_iter().any(|other| Arc::ptr_eq(other, host))
        };
        let mut ending: Vec<Arc<dyn PluginHost>> = Vec::new();
        for host in loose {
            if !held(&host) && !ending.iter().any(|other| Arc::ptr_eq(other, &host)) {
                ending.push(host);
            }
        }
        (ending, if self.hurrying { grace.min(Duration::from_secs(1)) } else { grace })
    }
}
