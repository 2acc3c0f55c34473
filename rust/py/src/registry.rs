//! What a plugin registers, and what is known of it before the first request.
//!
//! A plugin object collects its entries here. When it is loaded, each `setup` function runs once against a
//! recorder, so that the gateway knows which phases exist, whether a handler is `def` or `async def` and what it
//! wants, without asking Python again. A session runs `setup` anew for closures of its own and must register
//! exactly the same: a handler that appeared only sometimes would make a phase pass that should have been called.

use crate::context::Labels;
use crate::errors::ErrorClass;
use crate::signature::{inspect, inspect_setup, is_async};
use nylon_core::{Phase, PhaseMask};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of one handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Declared with `async def`.
    pub(crate) is_async: bool,
    /// Finds the request body read.
    pub(crate) body: bool,
    /// Called per chunk of the response body.
    pub(crate) stream: bool,
    /// On the data-plane thread, in the pool or on the loop; `None` leaves it to the plugin's `execution`.
    pub(crate) inline: Option<bool>,
}

struct Handler {
    function: Py<PyAny>,
    shape: Shape,
}

type Handlers = [Option<Handler>; 4];

/// What a `setup` function gets: it registers one handler per phase.
#[pyclass(frozen, module = "nylon")]
pub(crate) struct PhaseHandler {
    entry: String,
    handlers: Mutex<Handlers>,
    closed: AtomicBool,
    /// At load every handler is looked at closely; a session's are known from then.
    at_load: bool,
}

/// `@phase.request_filter(body=True)`: waits for the handler.
#[pyclass(frozen, module = "nylon._core")]
struct Registration {
    phases: Py<PhaseHandler>,
    phase: Phase,
    body: bool,
    stream: bool,
    inline: Option<bool>,
}

#[pymethods]
impl Registration {
    fn __call__<'py>(&self, handler: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.phases.get().register(&handler, self)?;
        Ok(handler)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PhaseHandler {
    fn new(entry: &str, at_load: bool) -> PhaseHandler {
        PhaseHandler {
            entry: entry.to_owned(),
            handlers: Mutex::default(),
            closed: AtomicBool::new(false),
            at_load,
        }
    }

    fn register(&self, function: &Bound<'_, PyAny>, wanted: &Registration) -> PyResult<()> {
        let py = function.py();
        let what = || format!("the {} handler of entry {:?}", wanted.phase, self.entry);
        if self.closed.load(Relaxed) {
            let why = format!("{} comes too late: register it while setup runs", what());
            return Err(ErrorClass::PluginError.error(py, why));
        }
        let is_async = if self.at_load { inspect(function, &what())? } else { is_async(function)? };
        let shape = Shape { is_async, body: wanted.body, stream: wanted.stream, inline: wanted.inline };
        let handler = Handler { function: function.clone().unbind(), shape };
        let place = &mut locked(&self.handlers)[wanted.phase.index()];
        if place.is_some() {
            return Err(ErrorClass::PluginError.error(py, format!("{} is registered twice", what())));
        }
        *place = Some(handler);
        Ok(())
    }

    fn close(&self) -> Handlers {
        self.closed.store(true, Relaxed);
        std::mem::take(&mut locked(&self.handlers))
    }
}

/// Registers at once, or gives the decorator that will.
fn now_or_later<'py>(
    phases: Bound<'py, PhaseHandler>,
    handler: Option<Bound<'py, PyAny>>,
    phase: Phase,
    (body, stream, inline): (bool, bool, Option<bool>),
) -> PyResult<Bound<'py, PyAny>> {
    let py = phases.py();
    let registration = Registration { phases: phases.unbind(), phase, body, stream, inline };
    match handler {
        Some(handler) => registration.__call__(handler),
        None => Ok(Bound::new(py, registration)?.into_any()),
    }
}

#[pymethods]
impl PhaseHandler {
    #[pyo3(signature = (handler=None, /, *, body=false, inline=None))]
    fn request_filter<'py>(
        slf: Bound<'py, Self>,
        handler: Option<Bound<'py, PyAny>>,
        body: bool,
        inline: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        now_or_later(slf, handler, Phase::RequestFilter, (body, false, inline))
    }

    #[pyo3(signature = (handler=None, /, *, inline=None))]
    fn response_filter<'py>(
        slf: Bound<'py, Self>,
        handler: Option<Bound<'py, PyAny>>,
        inline: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        now_or_later(slf, handler, Phase::ResponseFilter, (false, false, inline))
    }

    #[pyo3(signature = (handler=None, /, *, stream=false, inline=None))]
    fn response_body_filter<'py>(
        slf: Bound<'py, Self>,
        handler: Option<Bound<'py, PyAny>>,
        stream: bool,
        inline: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        now_or_later(slf, handler, Phase::ResponseBodyFilter, (false, stream, inline))
    }

    #[pyo3(signature = (handler=None, /, *, inline=None))]
    fn logging<'py>(
        slf: Bound<'py, Self>,
        handler: Option<Bound<'py, PyAny>>,
        inline: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        now_or_later(slf, handler, Phase::Logging, (false, false, inline))
    }
}

enum Registered {
    Setup(Py<PyAny>),
    Handlers(Py<PhaseHandler>),
}

/// The entries of one plugin object, as they are registered.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct Registry {
    entries: Mutex<Vec<(String, Registered)>>,
    sealed: AtomicBool,
}

impl Registry {
    fn check_open(&self, py: Python<'_>, entry: &str) -> PyResult<()> {
        if entry.is_empty() {
            return Err(ErrorClass::PluginError.error(py, "an entry needs a name"));
        }
        if self.sealed.load(Relaxed) {
            let why = format!("entry {entry:?} comes too late: the plugin runs already");
            return Err(ErrorClass::PluginError.error(py, why));
        }
        Ok(())
    }

    /// The entries as they are run. From here on nothing more can be registered.
    pub(crate) fn build(&self, py: Python<'_>, plugin: &str) -> PyResult<Vec<Arc<Entry>>> {
        self.sealed.store(true, Relaxed);
        // Setup functions are Python code, so the list is copied out of the lock first.
        let registered: Vec<(String, Registered)> = locked(&self.entries)
            .iter()
            .map(|(name, what)| {
                (
                    name.clone(),
                    match what {
                        Registered::Setup(setup) => Registered::Setup(setup.clone_ref(py)),
                        Registered::Handlers(handlers) => Registered::Handlers(handlers.clone_ref(py)),
                    },
                )
            })
            .collect();
        registered.into_iter().map(|(name, what)| Entry::new(py, plugin, name, what).map(Arc::new)).collect()
    }

    /// The names of the entries.
    pub(crate) fn names(&self) -> Vec<String> {
        locked(&self.entries).iter().map(|(name, _)| name.clone()).collect()
    }
}

#[pymethods]
impl Registry {
    #[new]
    fn new() -> Registry {
        Registry { entries: Mutex::default(), sealed: AtomicBool::new(false) }
    }

    fn add_setup(&self, entry: &str, setup: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = setup.py();
        self.check_open(py, entry)?;
        inspect_setup(setup, &format!("the setup function of entry {entry:?}"))?;
        let mut entries = locked(&self.entries);
        if entries.iter().any(|(name, _)| name == entry) {
            drop(entries);
            return Err(ErrorClass::PluginError.error(py, format!("entry {entry:?} is registered twice")));
        }
        entries.push((entry.to_owned(), Registered::Setup(setup.clone().unbind())));
        Ok(())
    }

    fn add_handler(
        &self,
        entry: &str,
        phase: &str,
        handler: &Bound<'_, PyAny>,
        body: bool,
        stream: bool,
        inline: Option<bool>,
    ) -> PyResult<()> {
        let py = handler.py();
        self.check_open(py, entry)?;
        let Some(phase) = Phase::from_name(phase) else {
            return Err(ErrorClass::PluginError.error(py, format!("there is no phase {phase:?}")));
        };
        let fresh = Py::new(py, PhaseHandler::new(entry, true))?;
        let phases = {
            let mut entries = locked(&self.entries);
            match entries.iter().find(|(name, _)| name == entry) {
                Some((_, Registered::Handlers(phases))) => Some(phases.clone_ref(py)),
                Some((_, Registered::Setup(_))) => None,
                None => {
                    entries.push((entry.to_owned(), Registered::Handlers(fresh.clone_ref(py))));
                    Some(fresh)
                }
            }
        };
        let Some(phases) = phases else {
            let why = format!("entry {entry:?} has a setup function: register its {phase} handler there");
            return Err(ErrorClass::PluginError.error(py, why));
        };
        let registration = Registration { phases, phase, body, stream, inline };
        registration.phases.get().register(handler, &registration)
    }

    fn entries(&self) -> Vec<String> {
        self.names()
    }
}

/// One entry as it is run.
pub(crate) struct Entry {
    /// Plugin and entry, for logs.
    pub(crate) labels: Arc<Labels>,
    shapes: [Option<Shape>; 4],
    source: Source,
}

enum Source {
    /// The same functions for every session.
    Handlers([Option<Py<PyAny>>; 4]),
    /// Functions of each session's own.
    Setup(Py<PyAny>),
}

/// What a session keeps: the closures that its `setup` made.
#[derive(Default)]
pub(crate) struct SessionHandlers(PyOnceLock<[Option<Py<PyAny>>; 4]>);

impl Entry {
    fn new(py: Python<'_>, plugin: &str, name: String, registered: Registered) -> PyResult<Entry> {
        let (handlers, setup) = match registered {
            Registered::Handlers(phases) => {
                let handlers = locked(&phases.get().handlers);
                let copy = |handler: &Handler| Handler {
                    function: handler.function.clone_ref(py),
                    shape: handler.shape,
                };
                (std::array::from_fn(|at| handlers[at].as_ref().map(copy)), None)
            }
            Registered::Setup(setup) => {
                let handlers = run_setup(py, &setup, &name, true);
                (handlers.map_err(|error| placed(py, &name, &setup, error))?, Some(setup))
            }
        };
        let shapes: [Option<Shape>; 4] = std::array::from_fn(|at| handlers[at].as_ref().map(|h| h.shape));
        if shapes.iter().all(Option::is_none) {
            let why = format!("entry {name:?} registers no handler: use phase.request_filter and the like");
            let error = ErrorClass::PluginError.error(py, why);
            return Err(setup.iter().fold(error, |error, setup| placed(py, &name, setup, error)));
        }
        let source = match setup {
            Some(setup) => Source::Setup(setup),
            None => Source::Handlers(handlers.map(|handler| handler.map(|handler| handler.function))),
        };
        Ok(Entry { labels: Arc::new(Labels { plugin: plugin.to_owned(), entry: name }), shapes, source })
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.labels.entry
    }

    /// What is known of the handler of `phase`, if there is one.
    pub(crate) fn shape(&self, phase: Phase) -> Option<Shape> {
        self.shapes[phase.index()]
    }

    /// The phases that have a handler.
    pub(crate) fn phases(&self) -> PhaseMask {
        Phase::ALL.into_iter().filter(|phase| self.shape(*phase).is_some()).collect()
    }

    /// Whether `request_filter` finds the request body read.
    pub(crate) fn wants_body(&self) -> bool {
        self.shapes.iter().flatten().any(|shape| shape.body)
    }

    /// Whether `response_body_filter` is called by chunk.
    pub(crate) fn streams(&self) -> bool {
        self.shapes.iter().flatten().any(|shape| shape.stream)
    }

    /// Whether sessions keep closures, so that all their phases must run in this process.
    pub(crate) fn keeps_sessions(&self) -> bool {
        matches!(self.source, Source::Setup(_))
    }

    /// The handler of `phase` in this session. Runs `setup` in a session's first call.
    pub(crate) fn handler<'py>(
        &self,
        py: Python<'py>,
        session: Option<&SessionHandlers>,
        phase: Phase,
    ) -> PyResult<Bound<'py, PyAny>> {
        let handlers = match &self.source {
            Source::Handlers(handlers) => handlers,
            Source::Setup(setup) => {
                let Some(session) = session else {
                    return Err(ErrorClass::PluginError.error(py, "this entry needs a session"));
                };
                session.0.get_or_try_init(py, || self.open(py, setup))?
            }
        };
        match &handlers[phase.index()] {
            Some(function) => Ok(function.bind(py).clone()),
            None => Err(ErrorClass::PluginError
                .error(py, format!("entry {:?} has no {phase} handler", self.labels.entry))),
        }
    }

    fn open(&self, py: Python<'_>, setup: &Py<PyAny>) -> PyResult<[Option<Py<PyAny>>; 4]> {
        let handlers = run_setup(py, setup, &self.labels.entry, false)?;
        for phase in Phase::ALL {
            let (now, then) = (handlers[phase.index()].as_ref().map(|h| h.shape), self.shape(phase));
            if now != then {
                let why = format!(
                    "the setup function of entry {:?} registers another {phase} handler in this session than when \
                     the plugin was loaded: it must register the same phases in the same way every time",
                    self.labels.entry
                );
                return Err(ErrorClass::PluginError.error(py, why));
            }
        }
        Ok(handlers.map(|handler| handler.map(|handler| handler.function)))
    }
}

/// The error of a `setup` function at load, with its place in the author's file.
fn placed(py: Python<'_>, entry: &str, setup: &Py<PyAny>, error: PyErr) -> PyErr {
    let what = format!("the setup function of entry {entry:?}");
    let value = error.clone_ref(py).into_value(py);
    let placed = py
        .import("nylon.loading")
        .and_then(|loading| loading.call_method1("plugin_error", (what, value, setup)));
    // Without its place the error is still the right one.
    placed.map_or(error, PyErr::from_value)
}

fn run_setup(py: Python<'_>, setup: &Py<PyAny>, entry: &str, at_load: bool) -> PyResult<Handlers> {
    let phases = Bound::new(py, PhaseHandler::new(entry, at_load))?;
    setup.bind(py).call1((&phases,))?;
    Ok(phases.get().close())
}
