//! The hosts of a plan: made anew, or taken over from the plan before where nothing about them has changed.
//!
//! A host that is taken over keeps all that it has: the plugin's `initialize`, its closures, its threads, what it
//! knows of its workers, the connection to the broker. So a reload that changes one plugin is noticed by that one
//! only.

use super::recipe::{Recipe, code, python_code};
use super::{entries_named, isolated, native};
use crate::dispatch::describe;
use crate::errors::ErrorClass;
use crate::python_host::{PythonHost, Settings};
use crate::text;
use nylon_config::plan::{
    Broker, CallbackMemory, Isolation, Messaging, OnLoadError, Plan, Plugin, PluginKind, PythonSource,
};
use nylon_gateway::plugin::native::{NativeHost, NativeSettings};
use nylon_gateway::plugin::remote::{Connection, RemoteHost};
use nylon_gateway::plugin::{PluginHost, UnloadedHost};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// One plugin's host, and all that it was made from.
pub(super) struct Hosted {
    /// The plugin's name in the configuration.
    pub(super) name: String,
    pub(super) host: Arc<dyn PluginHost>,
    /// The object that a Python host runs.
    object: Option<Py<PyAny>>,
    /// The host, where it is a native one.
    native: Option<Arc<NativeHost>>,
    recipe: Recipe,
}

impl Hosted {
    fn new(plugin: &Plugin, host: Arc<dyn PluginHost>, recipe: Recipe) -> Hosted {
        Hosted { name: plugin.name.clone(), host, object: None, native: None, recipe }
    }

    /// Why the plugin is not loaded, where it is not.
    pub(super) fn missing(&self) -> Option<String> {
        let unloaded = matches!(self.recipe, Recipe::Unloaded);
        unloaded.then(|| self.host.ready().err())?.map(|why| format!("plugin `{}`: {why}", self.name))
    }

    /// What is doubtful about it beside others.
    pub(super) fn warning(&self) -> Option<String> {
        self.native.as_ref()?.warning()
    }
}

/// What hosts are made with, beside the plan.
pub(super) struct Ingredients<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) plan: &'a Plan,
    /// Plugins given as objects, by name.
    pub(super) objects: &'a Bound<'py, PyDict>,
    /// The URLs of the embedded brokers, by name.
    pub(super) brokers: &'a HashMap<String, String>,
    /// The hosts of the plan before.
    pub(super) before: &'a [Arc<Hosted>],
    /// Somebody waits for the gateway to be stopped: no plugin needs to be waited for any more.
    pub(super) stopping: &'a AtomicBool,
}

/// The hosts of one plan.
pub(super) struct Hosts {
    /// In the order of the plan's plugins.
    pub(super) all: Vec<Arc<Hosted>>,
}

impl Hosts {
    pub(super) fn plugin_hosts(&self) -> Vec<Arc<dyn PluginHost>> {
        self.all.iter().map(|hosted| hosted.host.clone()).collect()
    }

    /// Those that `before` lacks.
    pub(super) fn new_since<'h>(
        &'h self,
        before: &'h [Arc<Hosted>],
    ) -> impl Iterator<Item = &'h Arc<Hosted>> {
        self.all.iter().filter(|hosted| !before.iter().any(|known| Arc::ptr_eq(known, hosted)))
    }
}

impl Ingredients<'_, '_> {
    /// Makes the hosts. On an error those that were made are ended again; those of the plan before are not touched.
    pub(super) fn hosts(&self) -> PyResult<Hosts> {
        let mut hosts = Hosts { all: Vec::new() };
        for plugin in &self.plan.plugins {
            match self.hosted(plugin, &hosts.all) {
                Ok(hosted) => hosts.all.push(hosted),
                Err(error) => {
                    self.py.detach(|| end(hosts.new_since(self.before)));
                    return Err(error);
                }
            }
        }
        Ok(hosts)
    }

    /// The plugin's host. One that cannot be loaded is replaced by one that fails, where the configuration wants that.
    fn hosted(&self, plugin: &Plugin, made: &[Arc<Hosted>]) -> PyResult<Arc<Hosted>> {
        let error = match self.loaded(plugin, made) {
            Err(error)
                if plugin.on_load_error == OnLoadError::Isolate
                    && error.is_instance_of::<pyo3::exceptions::PyException>(self.py) =>
            {
                error
            }
            loaded => return loaded,
        };
        let why = error.value(self.py).to_string();
        tracing::error!("plugin `{}` is not loaded, and what it would have to do fails: {why}", plugin.name);
        let kind = match plugin.kind {
            PluginKind::Python { .. } => "python",
            PluginKind::Native { .. } => "native",
            PluginKind::Messaging { .. } => "remote",
        };
        let host = Arc::new(UnloadedHost::new(kind, &why));
        Ok(Arc::new(Hosted::new(plugin, host, Recipe::Unloaded)))
    }

    fn loaded(&self, plugin: &Plugin, made: &[Arc<Hosted>]) -> PyResult<Arc<Hosted>> {
        let known = self.before.iter().find(|known| known.name == plugin.name);
        if let Some(isolation) = plugin.isolation {
            return self.isolated(plugin, isolation, known);
        }
        match &plugin.kind {
            PluginKind::Native { file, callback_memory } => {
                let recipe = Recipe::Native {
                    file: file.clone(),
                    callback_memory: *callback_memory,
                    config: plugin.config.clone(),
                    code: self.py.detach(|| code(file)),
                };
                if let Some(known) = known
                    && known.recipe.is_same_as(&recipe)
                {
                    return Ok(known.clone());
                }
                let before = known.and_then(|known| known.native.clone());
                let host = Arc::new(self.native(plugin, file, *callback_memory, before)?);
                let hosted = Hosted::new(plugin, host.clone(), recipe);
                Ok(Arc::new(Hosted { native: Some(host), ..hosted }))
            }
            PluginKind::Python { source, execution, threads } => {
                let given = self.objects.get_item(&plugin.name)?;
                let recipe = Recipe::Python {
                    source: source.clone(),
                    execution: *execution,
                    threads: *threads,
                    config: plugin.config.clone(),
                    code: python_code(source),
                    given: given.clone().map(Bound::unbind),
                };
                if let Some(known) = known
                    && known.recipe.is_same_as(&recipe)
                {
                    return Ok(known.clone());
                }
                let settings =
                    Settings { name: plugin.name.clone(), execution: *execution, threads: *threads };
                let started = (|| {
                    let object = given.map_or_else(|| load(self.py, source), Ok)?;
                    let host = self.python(plugin, &object, settings)?;
                    Ok((Arc::new(host), Some(object.unbind())))
                })();
                let (host, object) = started.map_err(|error| blame(self.py, plugin, error))?;
                Ok(Arc::new(Hosted { object, ..Hosted::new(plugin, host, recipe) }))
            }
            PluginKind::Messaging { messaging, workers } => {
                let messaging = self.resolved(&self.plan.messaging[*messaging]);
                if let Some(known) = known
                    && let Recipe::Remote { messaging: its, workers: its_workers, .. } = &known.recipe
                    && its.is_same_connection(&messaging)
                    && its_workers == workers
                {
                    return Ok(known.clone());
                }
                let connection = match connection_of(&messaging, made.iter().chain(self.before)) {
                    Some(connection) => connection,
                    None => connect(self.py, &messaging)?,
                };
                let prefix = &messaging.subject_prefix;
                let host = RemoteHost::new(connection.clone(), prefix, &plugin.name, workers);
                let host = host.map_err(|error| self.refused(plugin, &error.to_string()))?;
                let recipe =
                    Recipe::Remote { messaging: Box::new(messaging), workers: workers.clone(), connection };
                Ok(Arc::new(Hosted::new(plugin, Arc::new(host), recipe)))
            }
        }
    }

    fn native(
        &self,
        plugin: &Plugin,
        file: &Path,
        callback_memory: CallbackMemory,
        before: Option<Arc<NativeHost>>,
    ) -> PyResult<NativeHost> {
        let config = match &plugin.config {
            serde_json::Value::Null => String::new(),
            config => config.to_string(),
        };
        let settings = NativeSettings { name: plugin.name.clone(), config, callback_memory };
        match native::load(self.py, file, settings, before)? {
            Ok(host) => Ok(host),
            Err(error) => Err(self.refused(plugin, &error)),
        }
    }

    /// What is wrong with a plugin, where the configuration names it.
    fn refused(&self, plugin: &Plugin, why: &str) -> PyErr {
        let found = plugin.location.diagnostic(format!("plugin `{}`: {why}", plugin.name));
        ErrorClass::ConfigError.error(self.py, found.to_string())
    }

    /// A plugin in processes of its own.
    fn isolated(
        &self,
        plugin: &Plugin,
        isolation: Isolation,
        known: Option<&Arc<Hosted>>,
    ) -> PyResult<Arc<Hosted>> {
        let (kind, told) = match &plugin.kind {
            PluginKind::Python { source, execution, threads } => {
                if self.objects.contains(&plugin.name)? {
                    const WHY: &str = "a plugin given as an object is in this process, and `isolation: process` cannot \
                                       take it to another one: name its file (`file: x.py`) or its module";
                    return Err(self.refused(plugin, WHY));
                }
                ("python", isolated::python_recipe(self.plan, plugin, source, *execution, *threads))
            }
            PluginKind::Native { file, callback_memory } => (
                "native",
                self.py.detach(|| isolated::native_recipe(self.plan, plugin, file, *callback_memory)),
            ),
            // Validation refuses it.
            PluginKind::Messaging { .. } => {
                return Err(self.refused(plugin, "workers are processes of their own already"));
            }
        };
        let recipe = Recipe::Isolated { isolation, told: told.clone() };
        let entries = entries_named(self.plan, &plugin.name);
        if let Some(known) = known
            && known.recipe.is_same_as(&recipe)
            // A library that announces nothing was asked for the entries that the plan before named.
            && entries.iter().all(|entry| known.host.entry(entry).is_ok())
        {
            return Ok(known.clone());
        }
        let blamed = |why: String| match kind {
            "native" => self.refused(plugin, &why),
            _ => blame(self.py, plugin, ErrorClass::PluginError.error(self.py, why)),
        };
        let mut order = told;
        order["entries"] = serde_json::json!(entries);
        let host = isolated::start(self.py, plugin, kind, isolation, order, self.stopping, blamed)?;
        Ok(Arc::new(Hosted::new(plugin, Arc::new(host), recipe)))
    }

    fn python(&self, plugin: &Plugin, object: &Bound<'_, PyAny>, settings: Settings) -> PyResult<PythonHost> {
        // A file is a new module each time. A module and an object are one for the whole process: their `initialize`
        // would run over what handlers of the plan before still use, and `shutdown` over what the new ones use.
        let shared = self.before.iter().any(|known| known.object.as_ref().is_some_and(|its| its.is(object)));
        if shared {
            let why = "it runs already, and a module or an object cannot be initialized a second time beside itself: \
                       name its file (`file: x.py`), give another object, or stop the gateway and start it again";
            return Err(ErrorClass::PluginError.error(self.py, why));
        }
        let config = text::from_json(self.py, plugin.config.to_string().as_bytes())?;
        PythonHost::start(object, &config, settings)
    }

    fn resolved(&self, messaging: &Messaging) -> Messaging {
        let mut resolved = messaging.clone();
        if resolved.broker == Broker::Embedded {
            let url = self.brokers.get(&messaging.name);
            resolved.broker = Broker::Servers(url.cloned().into_iter().collect());
        }
        resolved
    }
}

/// The connection that one of `hosts` has with these very settings.
fn connection_of<'h>(
    messaging: &Messaging,
    mut hosts: impl Iterator<Item = &'h Arc<Hosted>>,
) -> Option<Arc<Connection>> {
    hosts.find_map(|hosted| match &hosted.recipe {
        Recipe::Remote { messaging: its, connection, .. } if its.is_same_connection(messaging) => {
            Some(connection.clone())
        }
        _ => None,
    })
}

/// Ends hosts that never served.
pub(super) fn end<'h>(hosts: impl Iterator<Item = &'h Arc<Hosted>>) {
    hosts.for_each(|hosted| hosted.host.shutdown(Duration::from_secs(1)));
}

fn load<'py>(py: Python<'py>, source: &PythonSource) -> PyResult<Bound<'py, PyAny>> {
    let loading = py.import("nylon.loading")?;
    match source {
        PythonSource::File { path, attribute } => {
            loading.call_method1("load_file", (path.display().to_string(), attribute))
        }
        PythonSource::Module { module, attribute } => {
            loading.call_method1("load_module", (module, attribute))
        }
    }
}

/// Adds to a plugin's error where the configuration names it. What is no `Exception` goes on as it is.
fn blame(py: Python<'_>, plugin: &Plugin, error: PyErr) -> PyErr {
    if !error.is_instance_of::<pyo3::exceptions::PyException>(py) {
        return error;
    }
    let known = ErrorClass::NylonError.is_of(py, &error);
    let what = if known { error.value(py).to_string() } else { describe(py, &error) };
    let text = format!("{what}\n  (plugin `{}`, configured in {})", plugin.name, plugin.location);
    ErrorClass::PluginError.error(py, text)
}

fn connect(py: Python<'_>, messaging: &Messaging) -> PyResult<Arc<Connection>> {
    let Broker::Servers(servers) = &messaging.broker else {
        let why = format!("broker `{}` was not started", messaging.name);
        return Err(ErrorClass::GatewayError.error(py, why));
    };
    let started = py.detach(|| Connection::start(messaging, servers.clone()));
    started.map_err(|error| {
        let why = format!("cannot start the connection to broker `{}`: {error}", messaging.name);
        ErrorClass::GatewayError.error(py, why)
    })
}
