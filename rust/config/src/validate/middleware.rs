//! Middleware: which plugin's entry, with which payload; and groups, expanded where they are named.

use std::sync::Arc;

use super::{builtins, conditions, directory::Directory, plugins, policy};
use crate::{
    kinds::{Named, Payload, Text},
    plan::{self, Condition, Handler, Middleware, PluginIndex, Policies},
    raw,
    report::Report,
    tree::{Node, Tree},
};

fn when(item: &raw::Middleware, report: &mut Report<'_>) -> Option<Arc<Condition>> {
    item.when.as_ref().map(|written| Arc::new(conditions::condition(written, report)))
}

/// What middleware refers to: the plugins, and the groups read so far.
pub(super) struct Attached<'a> {
    plugins: &'a Directory,
    raw_plugins: &'a [raw::Plugin],
    policies: &'a [Policies],
    brokers: builtins::Brokers<'a>,
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    name: &'a Text,
    state: State,
}

enum State {
    /// Not reached yet.
    Written,
    /// Being read: whoever names it now closes a circle.
    Open,
    Read(Vec<Middleware>),
}

impl<'a> Attached<'a> {
    pub(super) fn new(
        plugins: &'a Directory,
        raw_plugins: &'a [raw::Plugin],
        policies: &'a [Policies],
        brokers: builtins::Brokers<'a>,
    ) -> Attached<'a> {
        Attached { plugins, raw_plugins, policies, brokers, groups: Vec::new() }
    }

    /// Reads all groups, used or not, so that a mistake in one is told once, where it is.
    pub(super) fn read_groups(
        &mut self,
        written: Option<&'a Named<Vec<raw::Middleware>>>,
        report: &mut Report<'_>,
    ) {
        let Some(Named(written)) = written else { return };
        self.groups = written.iter().map(|(name, _)| Group { name, state: State::Written }).collect();
        for index in 0..written.len() {
            self.read_group(index, written, report);
        }
    }

    fn read_group(
        &mut self,
        index: usize,
        written: &'a [(Text, Vec<raw::Middleware>)],
        report: &mut Report<'_>,
    ) {
        if !matches!(self.groups[index].state, State::Written) {
            return;
        }
        self.groups[index].state = State::Open;
        let (name, items) = &written[index];
        if items.is_empty() {
            report.warn(name.place, format!("the group `{}` is empty", name.value));
        }
        for group in items.iter().filter_map(|item| item.group.as_ref()) {
            let Some(inner) = self.groups.iter().position(|known| known.name.value == group.value) else {
                continue;
            };
            if matches!(self.groups[inner].state, State::Open) {
                report.error(group.place, format!("the group `{}` holds itself", group.value));
            }
            self.read_group(inner, written, report);
        }
        let read = self.expand(items, report);
        self.groups[index].state = State::Read(read);
    }

    /// The middleware of a route, a path or a group, in order, with the groups' in their places.
    pub(super) fn expand(&self, written: &[raw::Middleware], report: &mut Report<'_>) -> Vec<Middleware> {
        let mut all = Vec::new();
        for item in written {
            match &item.group {
                Some(name) => {
                    let members = self.group(name, item, report);
                    let condition = when(item, report);
                    let members = members.iter().cloned().map(|mut middleware| {
                        // A group's condition is looked at before those of its members.
                        middleware.when.splice(0..0, condition.clone());
                        middleware
                    });
                    all.extend(members);
                }
                None => all.extend(self.single(item, report).map(|mut middleware| {
                    middleware.when.extend(when(item, report));
                    middleware
                })),
            }
        }
        all
    }

    fn group(&self, name: &Text, item: &raw::Middleware, report: &mut Report<'_>) -> &[Middleware] {
        for key in ["plugin", "entry", "payload", "per_phase"] {
            if item.has(key) {
                report.error(
                    item.place,
                    format!("a middleware is either a `group` or a plugin: `{key}` does not belong here"),
                );
            }
        }
        match self.groups.iter().find(|group| group.name.value == name.value) {
            Some(Group { state: State::Read(middleware), .. }) => middleware,
            Some(_) => &[], // a circle, reported where it closes
            None => {
                let known = self.groups.iter().map(|group| group.name.value.as_str());
                report.unknown(name.place, "middleware group", &name.value, known);
                &[]
            }
        }
    }

    fn single(&self, item: &raw::Middleware, report: &mut Report<'_>) -> Option<Middleware> {
        let Some(plugin) = &item.plugin else {
            if !item.has("plugin") && !item.has("group") {
                report.error(item.place, "a middleware needs a `plugin` or a `group`");
            }
            return None;
        };
        if raw::Builtin::is(&plugin.value) {
            return built_in(plugin, item, &self.brokers, report);
        }
        let entry = item.entry.as_ref();
        if !item.has("entry") {
            report.error_help(
                plugin.place,
                format!("which entry of `{}`?", plugin.value),
                "add `entry:` with the name that its handler is registered under",
            );
        }
        let index = match self.plugins.index(&plugin.value) {
            Some(index) => index,
            None => {
                let known = self.plugins.names().chain(raw::Builtin::NAMES.iter().copied());
                report.unknown(plugin.place, "plugin", &plugin.value, known);
                return None;
            }
        };
        self.attach(index, entry?, item.payload.as_ref(), item.per_phase.as_ref(), report)
    }

    /// One entry of a plugin that a service names.
    pub(super) fn service(
        &self,
        written: &raw::ServicePlugin,
        report: &mut Report<'_>,
    ) -> Option<Middleware> {
        let name = written.name.as_ref()?;
        if raw::Builtin::is(&name.value) {
            report.error(name.place, format!("`{}` cannot answer for a service", name.value));
            return None;
        }
        let index = self.plugins.find(name, report)?;
        self.attach(index, written.entry.as_ref()?, written.payload.as_ref(), None, report)
    }

    fn attach(
        &self,
        plugin: usize,
        entry: &Text,
        payload: Option<&Payload>,
        per_phase: Option<&raw::PerPhase>,
        report: &mut Report<'_>,
    ) -> Option<Middleware> {
        let mut policies = self.policies.get(plugin)?.clone();
        if let Some(per_phase) = per_phase {
            policy::check(per_phase, plugins::can_lose_calls(&self.raw_plugins[plugin]), report);
            policy::apply(&mut policies, per_phase);
        }
        let payload = payload.map_or_else(plan::Payload::nil, |payload| payload.encode(report));
        Some(Middleware {
            handler: Handler::Plugin { plugin: PluginIndex(plugin), entry: entry.value.clone() },
            payload,
            per_phase: policies,
            when: Vec::new(),
            location: report.sources.location(entry.place),
        })
    }
}

/// A plugin of the gateway's own.
fn built_in(
    plugin: &Text,
    item: &raw::Middleware,
    brokers: &builtins::Brokers<'_>,
    report: &mut Report<'_>,
) -> Option<Middleware> {
    if let Some(entry) = &item.entry {
        report.error_help(
            entry.place,
            format!("`{}` is the gateway's own plugin and has no entries", plugin.value),
            "leave `entry` out",
        );
    }
    let nothing = || Node { value: Tree::Null, place: plugin.place };
    let payload = item.payload.as_ref().map_or_else(nothing, |payload| payload.0.clone());
    let written = raw::Builtin::read(&plugin.value, &payload, report);
    let builtin = written.and_then(|written| builtins::builtin(&written, brokers, report));
    let mut per_phase = policy::defaults();
    let builtin = builtin?;
    if let Some(written) = &item.per_phase {
        policy::check(written, false, report);
        builtins::check_policies(&builtin, written, report);
        policy::apply(&mut per_phase, written);
    }
    Some(Middleware {
        handler: Handler::Builtin(builtin),
        payload: plan::Payload::nil(),
        per_phase,
        when: Vec::new(),
        location: report.sources.location(plugin.place),
    })
}
