//! Plugins: what runs them, and where their code is.

use super::{directory::Directory, located::find_file, policy, workers};
use crate::{
    kinds::Text,
    plan::{Execution, Plugin, PluginKind, Policies, PythonSource},
    raw,
    report::Report,
    source::Place,
};

/// Plugins of the gateway itself; their names are taken.
pub(super) const BUILTIN: [&str; 2] = ["RequestHeaderModifier", "ResponseHeaderModifier"];

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
        && BUILTIN.contains(&name.value.as_str())
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
        policy::check(per_phase, host(written) == Some(Host::Messaging), report);
    }
    Some(Plugin {
        name: written.name.as_ref()?.value.clone(),
        kind: kind?,
        config: written.config.as_ref().map_or(serde_json::Value::Null, |config| config.0.clone()),
        per_phase: policies(written, brokers),
        location: report.sources.location(place),
    })
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
const A_NATIVE_PLUGIN: &str = "a plugin of `type: ffi`";

fn native(written: &raw::Plugin, place: Place, report: &mut Report<'_>) -> Option<PluginKind> {
    let at = written.kind.as_ref().map(|kind| kind.place);
    let at = at.or_else(|| written.file.as_ref().map(|file| file.0.place)).unwrap_or(place);
    report.unavailable(at, "a native plugin (`type: ffi`)");
    None
}

fn python(written: &raw::Plugin, place: Place, report: &mut Report<'_>) -> Option<PluginKind> {
    foreign(
        &[
            ("messaging", written.messaging.as_ref().map(|text| text.place), A_MESSAGING_PLUGIN),
            ("group", written.group.as_ref().map(|text| text.0.place), A_MESSAGING_PLUGIN),
            (
                "groups",
                written.groups.as_ref().and_then(|all| all.first()).map(|one| one.place),
                A_MESSAGING_PLUGIN,
            ),
            ("mirror", written.mirror.as_ref().map(|text| text.0.place), A_MESSAGING_PLUGIN),
            ("callback_memory", written.callback_memory.as_ref().map(|word| word.place), A_NATIVE_PLUGIN),
        ],
        report,
    );
    let source = match (&written.file, &written.module) {
        (Some(file), None) => python_file(&file.0, report),
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

fn python_file(file: &Text, report: &mut Report<'_>) -> Option<PythonSource> {
    let Some((path, attribute)) = split_file(&file.value) else {
        report.error(file.place, format!("`{}` is no `.py` file", file.value));
        return None;
    };
    check_attribute(attribute, file.place, report)?;
    let path = find_file(path, file.place, report)?;
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
