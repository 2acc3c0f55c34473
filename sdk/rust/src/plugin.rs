//! What authors write: a plugin and its entries.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::phase::{PerPhase, Phase};
use std::collections::BTreeMap;
use std::fmt;

/// A handler of an entry that keeps nothing between phases: sessions share it.
pub(crate) type SharedHandler = Box<dyn Fn(&mut Context) -> Result + Send + Sync>;
/// A handler that belongs to one session.
pub(crate) type OwnHandler = Box<dyn FnMut(&mut Context) -> Result + Send>;
type Setup = Box<dyn Fn(&mut Session) -> Result + Send + Sync>;

/// A plugin: named entries with their handlers.
///
/// ```
/// use nylon_plugin::Plugin;
///
/// fn plugin() -> Plugin {
///     Plugin::new()
///         .request_filter("stamp", |ctx| {
///             ctx.request().set_header("x-stamp", "1")?;
///             ctx.next()
///         })
///         .response_filter("stamp", |ctx| {
///             ctx.response().set_header("x-stamp", "1")?;
///             Ok(())
///         })
/// }
/// # plugin();
/// ```
///
/// A handler returns `()` or a [`Result`]; an error and a panic fail the phase, and nothing of what it changed stays. In
/// `request_filter` it has to decide, with [`Context::next`] or [`Context::end`]; in the other phases, returning means
/// next.
#[derive(Default)]
pub struct Plugin {
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) shutdown: Option<Box<dyn FnOnce() + Send + Sync>>,
    /// What is wrong with it, for whoever loads it.
    problems: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) handlers: PerPhase<Option<SharedHandler>>,
    pub(crate) setup: Option<Setup>,
    pub(crate) wants: Wants,
}

/// What the handlers of an entry want.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    pub(crate) phases: PerPhase<bool>,
    pub(crate) body: bool,
    pub(crate) by_chunk: bool,
}

impl Plugin {
    /// A plugin without entries.
    pub fn new() -> Plugin {
        Plugin::default()
    }

    /// Adds an entry whose handlers share something from phase to phase: `setup` runs once per session and registers
    /// closures. It runs once more when the plugin is loaded, to see which phases there are; it must register the same
    /// ones each time.
    ///
    /// ```
    /// use nylon_plugin::Plugin;
    /// use std::sync::{Arc, Mutex};
    ///
    /// let plugin = Plugin::new().entry("seen", |session| {
    ///     let seen = Arc::new(Mutex::new(Vec::new()));
    ///     let filtered = seen.clone();
    ///     session.request_filter(move |ctx| {
    ///         filtered.lock().expect("no panic").push(ctx.request().path()?);
    ///         ctx.next()
    ///     });
    ///     session.logging(move |_| eprintln!("{:?}", seen.lock().expect("no panic")));
    /// });
    /// ```
    ///
    /// What can be cloned is kept with less in [`Context::state`].
    pub fn entry<R: Outcome>(
        mut self,
        name: impl Into<String>,
        setup: impl Fn(&mut Session) -> R + Send + Sync + 'static,
    ) -> Plugin {
        let name = name.into();
        if self.entries.contains_key(&name) {
            self.problems.push(format!("the entry {name:?} is registered twice"));
        }
        let setup: Setup = Box::new(move |session| setup(session).into_result());
        self.entries.insert(name.clone(), Entry { name, setup: Some(setup), ..Entry::default() });
        self
    }

    /// Adds a `request_filter` that keeps nothing between phases.
    pub fn request_filter<R: Outcome>(
        self,
        entry: impl Into<String>,
        handler: impl Fn(&mut Context) -> R + Send + Sync + 'static,
    ) -> Plugin {
        self.shared(entry, Phase::RequestFilter, handler, |_| {})
    }

    /// A `request_filter` before which the gateway reads the request's body, so that
    /// [`Request::body`](crate::Request::body) has it.
    pub fn request_filter_with_body<R: Outcome>(
        self,
        entry: impl Into<String>,
        handler: impl Fn(&mut Context) -> R + Send + Sync + 'static,
    ) -> Plugin {
        self.shared(entry, Phase::RequestFilter, handler, |wants| wants.body = true)
    }

    /// Adds a `response_filter` that keeps nothing between phases.
    pub fn response_filter<R: Outcome>(
        self,
        entry: impl Into<String>,
        handler: impl Fn(&mut Context) -> R + Send + Sync + 'static,
    ) -> Plugin {
        self.shared(entry, Phase::ResponseFilter, handler, |_| {})
    }

    /// Adds a `response_body_filter`, which is called once with the whole body
    /// ([`Response::body`](crate::Response::body)).
    pub fn response_body_filter<R: Outcome>(
        self,
        entry: impl Into<String>,
        handler: impl Fn(&mut Context) -> R + Send + Sync + 'static,
    ) -> Plugin {
        self.shared(entry, Phase::ResponseBodyFilter, handler, |_| {})
    }

    /// A `response_body_filter` that is called for each chunk as it comes ([`Context::chunk`]).
    pub fn response_body_filter_by_chunk<R: Outcome>(
        self,
        entry: impl Into<String>,
        handler: impl Fn(&mut Context) -> R + Send + Sync + 'static,
    ) -> Plugin {
        self.shared(entry, Phase::ResponseBodyFilter, handler, |wants| wants.by_chunk = true)
    }

    /// Adds a `logging` handler that keeps nothing between phases.
    pub fn logging<R: Outcome>(
        self,
        entry: impl Into<String>,
        handler: impl Fn(&mut Context) -> R + Send + Sync + 'static,
    ) -> Plugin {
        self.shared(entry, Phase::Logging, handler, |_| {})
    }

    /// What to do when the plugin ends: the gateway stops, or a reload replaced it and its last session is over.
    pub fn shutdown(mut self, action: impl FnOnce() + Send + Sync + 'static) -> Plugin {
        if self.shutdown.is_some() {
            self.problems.push("shutdown is registered twice".to_owned());
        }
        self.shutdown = Some(Box::new(action));
        self
    }

    fn shared<R: Outcome>(
        mut self,
        name: impl Into<String>,
        phase: Phase,
        handler: impl Fn(&mut Context) -> R + Send + Sync + 'static,
        wants: impl FnOnce(&mut Wants),
    ) -> Plugin {
        let name = name.into();
        let entry = self.entries.entry(name.clone()).or_default();
        if entry.setup.is_some() || entry.handlers[phase].is_some() {
            self.problems.push(format!("{phase} of the entry {name:?} is registered twice"));
        }
        entry.name = name;
        entry.handlers[phase] = Some(Box::new(move |ctx| handler(ctx).into_result()));
        entry.wants.phases[phase] = true;
        wants(&mut entry.wants);
        self
    }

    /// Runs every setup once, so that all phases are known.
    pub(crate) fn recorded(mut self) -> Result<Plugin> {
        for (name, entry) in &mut self.entries {
            let Some(setup) = &entry.setup else { continue };
            let mut session = Session::default();
            setup(&mut session)
                .map_err(|error| format!("the setup of the entry {name:?} failed: {error}"))?;
            self.problems
                .extend(session.problems.iter().map(|problem| format!("the entry {name:?}: {problem}")));
            entry.wants = session.wants;
        }
        if self.problems.is_empty() { Ok(self) } else { Err(self.problems.join("; ").into()) }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("entries", &self.entries.keys()).finish_non_exhaustive()
    }
}

/// One exchange × one middleware, while its setup registers its handlers; see [`Plugin::entry`].
#[derive(Default)]
pub struct Session {
    pub(crate) handlers: PerPhase<Option<OwnHandler>>,
    pub(crate) wants: Wants,
    pub(crate) problems: Vec<String>,
}

impl Session {
    /// Registers this session's `request_filter`.
    pub fn request_filter<R: Outcome>(
        &mut self,
        handler: impl FnMut(&mut Context) -> R + Send + 'static,
    ) -> &mut Session {
        self.own(Phase::RequestFilter, handler)
    }

    /// Registers a `request_filter` before which the gateway reads the request's body.
    pub fn request_filter_with_body<R: Outcome>(
        &mut self,
        handler: impl FnMut(&mut Context) -> R + Send + 'static,
    ) -> &mut Session {
        self.wants.body = true;
        self.own(Phase::RequestFilter, handler)
    }

    /// Registers this session's `response_filter`.
    pub fn response_filter<R: Outcome>(
        &mut self,
        handler: impl FnMut(&mut Context) -> R + Send + 'static,
    ) -> &mut Session {
        self.own(Phase::ResponseFilter, handler)
    }

    /// Registers a `response_body_filter`, which is called once with the whole body.
    pub fn response_body_filter<R: Outcome>(
        &mut self,
        handler: impl FnMut(&mut Context) -> R + Send + 'static,
    ) -> &mut Session {
        self.own(Phase::ResponseBodyFilter, handler)
    }

    /// Registers a `response_body_filter` that is called for each chunk.
    pub fn response_body_filter_by_chunk<R: Outcome>(
        &mut self,
        handler: impl FnMut(&mut Context) -> R + Send + 'static,
    ) -> &mut Session {
        self.wants.by_chunk = true;
        self.own(Phase::ResponseBodyFilter, handler)
    }

    /// Registers this session's `logging`.
    pub fn logging<R: Outcome>(
        &mut self,
        handler: impl FnMut(&mut Context) -> R + Send + 'static,
    ) -> &mut Session {
        self.own(Phase::Logging, handler)
    }

    fn own<R: Outcome>(
        &mut self,
        phase: Phase,
        mut handler: impl FnMut(&mut Context) -> R + Send + 'static,
    ) -> &mut Session {
        if self.handlers[phase].is_some() {
            self.problems.push(format!("{phase} is registered twice"));
        }
        self.handlers[phase] = Some(Box::new(move |ctx| handler(ctx).into_result()));
        self.wants.phases[phase] = true;
        self
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("wants", &self.wants).finish_non_exhaustive()
    }
}
