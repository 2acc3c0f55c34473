//! Looks for handlers that are stuck on a thread that others need, since nobody can stop them: at least the log says which
//! one it is.
//!
//! One thread of the process looks, for as long as there is a host whose handlers can get stuck. What to look at is the
//! hosts' own business: each kind of host gives a function.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it looks.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// How far beyond its deadline a handler is called stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(1);

/// What looks at the handlers of one kind of host.
#[derive(Clone, Copy)]
pub struct Look {
    /// The kind of host.
    pub kind: &'static str,
    /// Looks, and tells of those that are stuck. The others look after it.
    pub look: fn(),
}

/// One host's share in the watchdog; the first one begins it and the last one ends it.
pub struct Watch(&'static str);

struct State {
    /// With how many hosts want each.
    looks: Vec<(Look, usize)>,
    /// Which thread looks.
    generation: u64,
}

static STATE: Mutex<State> = Mutex::new(State { looks: Vec::new(), generation: 0 });
static LEAVING: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Has `look` called, from a thread of the watchdog's own, until this is dropped.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn keep(look: Look) -> io::Result<Watch> {
        let mut state = state();
        if state.looks.is_empty() {
            state.generation += 1;
            let generation = state.generation;
            std::thread::Builder::new().name("nylon-watchdog".to_owned()).spawn(move || watch(generation))?;
        }
        match state.looks.iter_mut().find(|(known, _)| known.kind == look.kind) {
            Some((_, hosts)) => *hosts += 1,
            None => state.looks.push((look, 1)),
        }
        Ok(Watch(look.kind))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = state();
        for (look, hosts) in &mut state.looks {
            if look.kind == self.0 {
                *hosts -= 1;
            }
        }
        state.looks.retain(|(_, hosts)| *hosts > 0);
        if state.looks.is_empty() {
            state.generation += 1;
            LEAVING.notify_all();
        }
    }
}

fn watch(generation: u64) {
    loop {
        let unchanged = |state: &mut State| state.generation == generation;
        let (state, _) = LEAVING
            .wait_timeout_while(state(), WATCH_EVERY, unchanged)
            .unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation {
            return;
        }
        let looks: Vec<Look> = state.looks.iter().map(|(look, _)| *look).collect();
        drop(state);
        looks.into_iter().for_each(|look| (look.look)());
    }
}
