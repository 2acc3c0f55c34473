//! A session while the gateway has it open: its line, its handlers, and what it keeps from phase to phase.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::link::{Callback, Link};
use crate::loaded::Loaded;
use crate::panics::{self, Guard};
use crate::phase::{PerPhase, Phase};
use crate::plugin::{Entry, OwnHandler, Session};
use http::Extensions;
use nylon_abi::method;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) struct OpenSession {
    pub(crate) link: Link,
    /// Held for as long as something of it may run.
    plugin: Arc<Loaded>,
    /// The entry's place in it.
    entry: usize,
    handlers: Handlers,
    /// What [`Context::state`] keeps between phases.
    state: Mutex<Option<Extensions>>,
}

enum Handlers {
    /// Those of the entry.
    Shared,
    /// This session's own. Each is taken out while it runs, so that no lock is held meanwhile.
    Own(Box<PerPhase<Mutex<Option<OwnHandler>>>>),
    /// The setup failed: every phase does.
    Failed(String),
}

impl OpenSession {
    /// Opens a session for the entry at this place, and runs its setup if it has one.
    pub(crate) fn open(plugin: Arc<Loaded>, entry: usize, sid: u32, callback: Callback) -> OpenSession {
        let handlers = own_handlers(plugin.entry(entry));
        OpenSession { link: Link::new(sid, callback), plugin, entry, handlers, state: Mutex::default() }
    }

    pub(crate) fn entry(&self) -> &Entry {
        self.plugin.entry(self.entry)
    }

    pub(crate) fn load_state(&self) -> Option<Extensions> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn store_state(&self, state: Extensions) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// Runs a phase's handler, and says what it came to unless that was put off.
    pub(crate) fn run(self: Arc<Self>, phase: Phase, guard: Guard) {
        let mut context = Context::new(self.clone(), phase);
        let done = match &self.handlers {
            Handlers::Failed(why) => Err(Error::from(why.as_str())),
            Handlers::Shared => match &self.entry().handlers[phase] {
                Some(handler) => result(guard.caught(|| handler(&mut context))),
                None => return self.pass(),
            },
            Handlers::Own(handlers) => {
                let place = &handlers[phase];
                let taken = place.lock().unwrap_or_else(PoisonError::into_inner).take();
                match taken {
                    Some(mut handler) => {
                        let done = result(guard.caught(|| handler(&mut context)));
                        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(handler);
                        done
                    }
                    None if self.entry().wants.phases[phase] => {
                        Err(format!("{phase} is still running: phases of a session do not overlap").into())
                    }
                    None => return self.pass(),
                }
            }
        };
        context.returned(done);
    }

    /// Nobody handles the phase.
    fn pass(&self) {
        // A session that is closed needs no answer.
        let _closed = self.link.tell(method::NEXT, &[]);
    }
}

/// What the plugin's author keeps in a session may panic when it is dropped.
impl Drop for OpenSession {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if state.is_some() || matches!(self.handlers, Handlers::Own(_)) {
            panics::dropped((state, std::mem::replace(&mut self.handlers, Handlers::Shared)));
        }
    }
}

/// Runs a handler or a part of one; a panic is its error.
pub(crate) fn run_caught(action: impl FnOnce() -> Result) -> Result {
    result(panics::caught(|_| action()))
}

fn result(caught: Result<Result, String>) -> Result {
    caught.unwrap_or_else(|panic| Err(Error::from(panic)))
}

fn own_handlers(entry: &Entry) -> Handlers {
    let Some(setup) = &entry.setup else { return Handlers::Shared };
    let mut session = Session::default();
    if let Err(error) = run_caught(|| setup(&mut session)) {
        return Handlers::Failed(format!("its setup failed: {error}"));
    }
    if let Some(problem) = session.problems.first() {
        return Handlers::Failed(problem.clone());
    }
    let mut handlers = PerPhase::<Mutex<Option<OwnHandler>>>::default();
    for phase in Phase::ALL {
        if session.handlers[phase].is_some() != entry.wants.phases[phase] {
            let why = "a setup registers the same phases each time, also when the plugin is loaded";
            return Handlers::Failed(format!("its setup has changed its mind about {phase}: {why}"));
        }
        handlers[phase] = Mutex::new(session.handlers[phase].take());
    }
    Handlers::Own(Box::new(handlers))
}
