//! Plugins: what runs them, and where their code is.

use std::path::PathBuf;

use super::{
    directory::Directory,
    located::{find_file, find_file_later},
    policy, workers,
};
use crate::{
    kinds::Text,
    plan::{CallbackMemory, Execution, Isolation, OnLoadError, Plugin, PluginKind, Policies, PythonSource},
    raw,
    report::Report,
    source::Place,
};

/// The keys that say that a plugin runs on workers.
const MESSAGING_KEYS: [&str; 4] = ["messaging", "group", "groups", "mirror"];

/// The pool of a Python plugin that says nothing about it.
const THREADS: usize = 4;

/// What runs a plugin, as written or as its other keys tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    Native,
    Python,
    Messaging,
}

pub(super) fn host(written: &raw::Plugin) -> Option<Host> {
    let python_file = || written.file.as_ref().is_some_and(|file| split_file(&file.0.value).is_some());
    match written.kind.as_ref().map(|kind| kind.value) {
        Some(raw::PluginType::Ffi) if python_file() => Some(Host::Python),
        Some(raw::PluginType::Ffi) => Some(Host::Native),
        Some(raw::PluginType::Python) => Some(Host::Python),
        Some(raw::PluginType::Messaging) => Some(Host::Messaging),
        None if MESSAGING_KEYS.iter().any(|key| written.has(key)) => Some(Host::Messaging),
        None if written.has("module") || python_file() => Some(Host::Python),
        None if written.file.is_some() => Some(Host::Native),
        None => None,
    }
}

pub(super) fn plugin(
    written: &raw::Plugin,
    brokers: &[raw::Messaging],
    broker_names: &Directory,
    report: &mut Report<'_>,
) -> Option<Plugin> {
    let place = written.name.as_ref().map_or(written.place, |name| name.place);
    if let Some(name) = &written.name
        && raw::Builtin::is(&name.value)
    {
        report.error_help(
            place,
            format!("`{}` is the gateway's own plugin", name.value),
            "choose another name",
        );
    }
    let kind = match host(written) {
        Some(Host::Native) => native(written, place, report),
        Some(Host::Python) => python(written, place, report),
        Some(Host::Messaging) => messaging(written, place, broker_names, report),
        None if ["type", "file", "module"].iter().any(|key| written.has(key)) => None,
        None => {
            report.error_help(
                place,
                "nothing says what runs this plugin",
                "give it a `file`, a `module`, or `messaging` and `group`",
            );
            None
        }
    };
    if let Some(per_phase) = &written.per_phase {
        policy::check(per_phase, can_lose_calls(written), report);
    }
    let isolation = isolation(written, report);
    Some(Plugin {
        name: written.name.as_ref()?.value.clone(),
        kind: kind?,
        config: written.config.as_ref().map_or(serde_json::Value::Null, |config| config.0.clone()),
        isolation,
        on_load_error: on_load_error(written),
        per_phase: policies(written, brokers),
        location: report.sources.location(place),
    })
}

/// Whether the plugin runs outside of the gateway's process, so that a call may not reach it, or end with it.
pub(super) fn can_lose_calls(written: &raw::Plugin) -> bool {
    host(written) == Some(Host::Messaging) || written.isolation.is_some()
}

fn isolation(written: &raw::Plugin, report: &mut Report<'_>) -> Option<Isolation> {
    if written.isolation.is_some() {
        return Some(Isolation { processes: written.processes.map_or(1, super::size) });
    }
    if let Some(processes) = written.processes
        && host(written) != Some(Host::Messaging)
        && !written.has("isolation")
    {
        report.error_help(
            processes.place,
            "without `isolation: process` a plugin has no processes of its own",
            "add `isolation: process`",
        );
    }
    None
}

fn on_load_error(written: &raw::Plugin) -> OnLoadError {
    match written.on_load_error.as_ref().map(|word| word.value) {
        Some(raw::OnLoadError::Isolate) => OnLoadError::Isolate,
        Some(raw::OnLoadError::Fail) | None => OnLoadError::Fail,
    }
}

/// Finds the plugin's code. Where its absence is not to keep the gateway from running, it is a warning here, and the
/// plugin's own trouble when it is loaded.
fn code_file(written: &raw::Plugin, path: &str, place: Place, report: &mut Report<'_>) -> Option<PathBuf> {
    match on_load_error(written) {
        OnLoadError::Fail => find_file(path, place, report),
        OnLoadError::Isolate => Some(find_file_later(path, place, report)),
    }
}

/// How the plugin's phases are called, unless a middleware says otherwise.
pub(super) fn policies(written: &raw::Plugin, brokers: &[raw::Messaging]) -> Policies {
    let mut policies = policy::defaults();
    let broker = written.messaging.as_ref().and_then(|name| {
        brokers.iter().find(|broker| broker.name.as_ref().is_some_and(|known| known.value == name.value))
    });
    if let Some(broker) = broker {
        policy::apply_broker(&mut policies, broker);
    }
    if let Some(per_phase) = &written.per_phase {
        policy::apply(&mut policies, per_phase);
    }
    policies
}

/// Reports the keys that mean nothing to this kind of plugin.
fn foreign(keys: &[(&str, Option<Place>, &str)], report: &mut Report<'_>) {
    for (key, place, owner) in keys {
        if let Some(place) = place {
            report.error(*place, format!("`{key}` belongs to {owner}"));
        }
    }
}

const A_PYTHON_PLUGIN: &str = "a plugin of `type: python`";
const A_MESSAGING_PLUGIN: &str = "a plugin of `type: messaging`";
const A_NATIVE_PLUGIN: &str = "a native plugin, whose `file` is a library";
const A_PLUGIN_OF_THE_GATEWAY: &str =
    "a plugin that the gateway runs itself; workers are processes of their own";

/// The keys of workers, in a plugin that the gateway runs.
fn no_workers(written: &raw::Plugin, report: &mut Report<'_>) {
    let groups = written.groups.as_ref().and_then(|all| all.first());
    foreign(
        &[
            ("messaging", written.messaging.as_ref().map(|text| text.place), A_MESSAGING_PLUGIN),
            ("group", written.group.as_ref().map(|text| text.0.place), A_MESSAGING_PLUGIN),
            ("groups", groups.map(|one| one.place), A_MESSAGING_PLUGIN),
            ("mirror", written.mirror.as_ref().map(|text| text.0.place), A_MESSAGING_PLUGIN),
        ],
        report,
    );
}

fn native(written: &raw::Plugin, place: Place, report: &mut Report<'_>) -> Option<PluginKind> {
    no_workers(written, report);
    foreign(
        &[
            ("module", written.module.as_ref().map(|text| text.0.place), A_PYTHON_PLUGIN),
            ("execution", written.execution.as_ref().map(|word| word.place), A_PYTHON_PLUGIN),
            ("threads", written.threads.map(|count| count.place), A_PYTHON_PLUGIN),
        ],
        report,
    );
    let callback_memory = match written.callback_memory.as_ref().map(|word| word.value) {
        Some(raw::CallbackMemory::Host) => CallbackMemory::Host,
        Some(raw::CallbackMemory::Plugin) | None => CallbackMemory::Plugin,
    };
    let Some(file) = &written.file else {
        if !written.has("file") {
            report.error(place, "a native plugin needs a `file`: a library that speaks the C ABI");
        }
        return None;
    };
    let file = code_file(written, &file.0.value, file.0.place, report)?;
    Some(PluginKind::Native { file, callback_memory })
}

fn python(written: &raw::Plugin, place: Place, report: &mut Report<'_>) -> Option<PluginKind> {
    no_workers(written, report);
    foreign(
        &[("callback_memory", written.callback_memory.as_ref().map(|word| word.place), A_NATIVE_PLUGIN)],
        report,
    );
    let source = match (&written.file, &written.module) {
        (Some(file), None) => python_file(written, &file.0, report),
        (None, Some(module)) => python_module(&module.0, report),
        (Some(_), Some(module)) => {
            report.error(module.0.place, "either a `file` or a `module`, not both");
            None
        }
        (None, None) => {
            if !written.has("file") && !written.has("module") {
                report.error(place, "a Python plugin needs a `file` or a `module`");
            }
            None
        }
    };
    let execution = match written.execution.as_ref().map(|word| word.value) {
        Some(raw::Execution::Inline) => Execution::Inline,
        Some(raw::Execution::Thread) | None => Execution::Thread,
    };
    if let Some(threads) = written.threads
        && execution == Execution::Inline
    {
        report.warn(threads.place, "`threads` has no effect on handlers that run inline");
    }
    let threads = written.threads.map_or(THREADS, super::size);
    Some(PluginKind::Python { source: source?, execution, threads })
}

/// `x.py` or `x.py:name` as path and attribute; `None`: not Python.
fn split_file(text: &str) -> Option<(&str, &str)> {
    match text.rsplit_once(".py:") {
        Some((_, attribute)) => Some((&text[..text.len() - attribute.len() - 1], attribute)),
        None => text.ends_with(".py").then_some((text, "plugin")),
    }
}

fn python_file(written: &raw::Plugin, file: &Text, report: &mut Report<'_>) -> Option<PythonSource> {
    let Some((path, attribute)) = split_file(&file.value) else {
        report.error(file.place, format!("`{}` is no `.py` file", file.value));
        return None;
    };
    check_attribute(attribute, file.place, report)?;
    let path = code_file(written, path, file.place, report)?;
    Some(PythonSource::File { path, attribute: attribute.to_owned() })
}

fn python_module(text: &Text, report: &mut Report<'_>) -> Option<PythonSource> {
    let (module, attribute) = text.value.split_once(':').unwrap_or((&text.value, "plugin"));
    if !module.split('.').all(is_identifier) {
        report.error_help(
            text.place,
            format!("`{module}` is no Python module"),
            "write `pkg.mod` or `pkg.mod:name`; a path is a `file`",
        );
        return None;
    }
    check_attribute(attribute, text.place, report)?;
    Some(PythonSource::Module { module: module.to_owned(), attribute: attribute.to_owned() })
}

fn check_attribute(attribute: &str, place: Place, report: &mut Report<'_>) -> Option<()> {
    if is_identifier(attribute) {
        return Some(());
    }
    report.error(place, format!("`{attribute}` is no name of an attribute"));
    None
}

fn is_identifier(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn messaging(
    written: &raw::Plugin,
    place: Place,
    broker_names: &Directory,
    report: &mut Report<'_>,
) -> Option<PluginKind> {
    foreign(
        &[
            ("file", written.file.as_ref().map(|text| text.0.place), A_PYTHON_PLUGIN),
            ("module", written.module.as_ref().map(|text| text.0.place), A_PYTHON_PLUGIN),
            ("execution", written.execution.as_ref().map(|word| word.place), A_PYTHON_PLUGIN),
            ("threads", written.threads.map(|count| count.place), A_PYTHON_PLUGIN),
            ("callback_memory", written.callback_memory.as_ref().map(|word| word.place), A_NATIVE_PLUGIN),
            ("isolation", written.isolation.as_ref().map(|word| word.place), A_PLUGIN_OF_THE_GATEWAY),
            ("processes", written.processes.map(|count| count.place), A_PLUGIN_OF_THE_GATEWAY),
            ("on_load_error", written.on_load_error.as_ref().map(|word| word.place), A_PLUGIN_OF_THE_GATEWAY),
        ],
        report,
    );
    let messaging = match &written.messaging {
        Some(name) => broker_names.find(name, report),
        None if written.has("messaging") => None,
        None => {
            report.error_help(
                place,
                "a plugin behind a broker needs a `messaging`",
                "name one of the connections of the `messaging` section",
            );
            None
        }
    };
    let workers = workers::of(written, report);
    Some(PluginKind::Messaging { messaging: messaging?, workers: workers? })
}
