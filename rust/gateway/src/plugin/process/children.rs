//! The processes of one plugin that can take calls, and the choice among them.

use super::child::{Child, OpenCall, Refused};
use nylon_core::{Failure, FailureKind};
use nylon_wire::CallId;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout_at;

/// Those that can take calls.
pub(super) struct Children {
    state: Mutex<State>,
    /// Changes whenever something in `state` does.
    news: watch::Sender<()>,
    turn: AtomicUsize,
}

struct State {
    live: Vec<Arc<Child>>,
    /// By seat: what is the matter while nobody sits there, and when that may be over.
    vacant: Vec<Option<Vacancy>>,
    ended: bool,
}

/// Why a seat has no process.
#[derive(Clone)]
pub(super) struct Vacancy {
    pub(super) why: String,
    /// When the next one is started; none where one starts just now.
    pub(super) until: Option<Instant>,
}

impl Children {
    pub(super) fn new(seats: usize) -> Children {
        let starts = || Some(Vacancy { why: "it starts".to_owned(), until: None });
        let vacant = (0..seats).map(|_| starts()).collect();
        let state = Mutex::new(State { live: Vec::new(), vacant, ended: false });
        Children { state, news: watch::Sender::new(()), turn: AtomicUsize::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.news.send_replace(());
    }

    /// One can take calls.
    pub(super) fn seated(&self, seat: usize, child: &Arc<Child>) {
        self.change(|state| {
            state.vacant[seat] = None;
            state.live.push(child.clone());
        });
    }

    /// One cannot any more, or could never.
    pub(super) fn vacated(&self, seat: usize, child: Option<&Arc<Child>>, vacancy: Vacancy) {
        self.change(|state| {
            state.live.retain(|live| !child.is_some_and(|child| Arc::ptr_eq(child, live)));
            state.vacant[seat] = Some(vacancy);
        });
    }

    /// No call follows.
    pub(super) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    /// Those that can take calls now.
    pub(super) fn live(&self) -> Vec<Arc<Child>> {
        self.state().live.clone()
    }

    /// Why seats have no process now.
    pub(super) fn vacancies(&self) -> Vec<Vacancy> {
        self.state().vacant.iter().flatten().cloned().collect()
    }

    /// Whether calls can be expected to succeed.
    pub(super) fn ready(&self) -> Result<(), String> {
        let state = self.state();
        match state.vacant.iter().flatten().next() {
            Some(vacancy) if state.live.is_empty() => Err(vacancy.to_string()),
            _ => Ok(()),
        }
    }

    /// Opens a call on the least loaded process, and waits for one where there is none. One that lets calls go by
    /// unanswered is asked only if there is no other.
    pub(super) async fn open(&self, id: CallId, deadline: Instant) -> Result<OpenCall, Failure> {
        let mut news = self.news.subscribe();
        loop {
            match self.try_open(id) {
                Ok(call) => return Ok(call),
                Err(Some(failure)) => return Err(failure),
                Err(None) if self.is_hopeless(deadline) => return Err(self.none()),
                Err(None) => {}
            }
            if timeout_at(deadline.into(), news.changed()).await.is_err() {
                return Err(self.none());
            }
        }
    }

    /// Whether none is even started before `deadline`.
    fn is_hopeless(&self, deadline: Instant) -> bool {
        self.vacancies().iter().all(|vacancy| vacancy.until.is_some_and(|until| until > deadline))
    }

    fn none(&self) -> Failure {
        unavailable(self.ready().err().as_deref().unwrap_or("one has only just started"))
    }

    /// No failure where it is worth waiting.
    fn try_open(&self, id: CallId) -> Result<OpenCall, Option<Failure>> {
        let state = self.state();
        if state.ended {
            return Err(Some(unavailable("the plugin is being ended")));
        }
        if state.live.is_empty() {
            return Err(None);
        }
        let (first, count) = (self.turn.fetch_add(1, Relaxed), state.live.len());
        let mut by_load: Vec<_> = (0..count)
            .map(|place| &state.live[(first.wrapping_add(place)) % count])
            .map(|child| (child.is_silent(), child.load(), child))
            .collect();
        by_load.sort_by_key(|(silent, load, _)| (*silent, *load));
        let mut full = false;
        for (.., child) in by_load {
            match child.open(id) {
                Ok(call) => return Ok(call),
                Err(Refused::Full) => full = true,
                Err(Refused::Ended) => {}
            }
        }
        const WHY: &str = "the plugin's processes have as many calls as they may have";
        Err(full.then(|| Failure::new(FailureKind::Overloaded, WHY)))
    }
}

impl std::fmt::Display for Vacancy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        match left.filter(|left| *left > Duration::ZERO) {
            Some(left) => write!(f, "{}; the next one is started in {:.1} s", self.why, left.as_secs_f64()),
            None => f.write_str(&self.why),
        }
    }
}

fn unavailable(why: &str) -> Failure {
    Failure::new(FailureKind::Unavailable, format!("no process of the plugin runs: {why}"))
}
