//! `RequestHeaderModifier` and `ResponseHeaderModifier`: fields of a head are removed, set and added.
//!
//! All values are rendered before the first change is made, so that a template sees the request as it came, and a value
//! that is no value leaves the head alone. Values that no request has a part in are made into operations once.

use super::ending::{conclude, fail};
use super::{heads_only, rendered_value};
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use http::{HeaderName, HeaderValue};
use nylon_config::plan::HeaderChanges;
use nylon_core::template::Template;
use nylon_core::{Exchange, FailureKind, Op, Outcome, Phase, PhaseMask};

pub(super) struct HeaderModifier {
    phase: Phase,
    changes: Changes,
}

enum Changes {
    /// The same for every request.
    Constant(Vec<Op>),
    Rendered(Vec<Change>),
}

/// One field's change.
enum Change {
    Constant(Op),
    Rendered(Write, HeaderName, Template),
}

/// Makes an operation of a field.
type Write = fn(HeaderName, HeaderValue) -> Op;

impl HeaderModifier {
    pub(super) fn of_requests(changes: &HeaderChanges) -> HeaderModifier {
        let (set, add) = (Op::SetRequestHeader, Op::AddRequestHeader);
        HeaderModifier::new(changes, Phase::RequestFilter, Op::RemoveRequestHeader, set, add)
    }

    pub(super) fn of_responses(changes: &HeaderChanges) -> HeaderModifier {
        let (set, add) = (Op::SetResponseHeader, Op::AddResponseHeader);
        HeaderModifier::new(changes, Phase::ResponseFilter, Op::RemoveResponseHeader, set, add)
    }

    fn new(
        changes: &HeaderChanges,
        phase: Phase,
        remove: fn(HeaderName) -> Op,
        set: Write,
        add: Write,
    ) -> HeaderModifier {
        let removed = changes.remove.iter().map(|name| Change::Constant(remove(name.clone())));
        let set = changes.set.iter().map(|(name, value)| Change::new(set, name, value));
        let added = changes.add.iter().map(|(name, value)| Change::new(add, name, value));
        let all: Vec<Change> = removed.chain(set).chain(added).collect();
        let constant = all.iter().map(|change| match change {
            Change::Constant(op) => Some(op.clone()),
            Change::Rendered(..) => None,
        });
        let changes = match constant.collect() {
            Some(ops) => Changes::Constant(ops),
            None => Changes::Rendered(all),
        };
        HeaderModifier { phase, changes }
    }
}

impl Change {
    fn new(write: Write, name: &HeaderName, value: &Template) -> Change {
        match value.constant() {
            Some(text) => {
                let value = HeaderValue::from_str(text).expect("validation has made one of it");
                Change::Constant(write(name.clone(), value))
            }
            None => Change::Rendered(write, name.clone(), value.clone()),
        }
    }

    fn op(&self, exchange: &Exchange) -> Result<Op, String> {
        Ok(match self {
            Change::Constant(op) => op.clone(),
            Change::Rendered(write, name, value) => write(name.clone(), rendered_value(value, exchange)?),
        })
    }
}

impl PluginEntry for HeaderModifier {
    fn traits(&self) -> EntryTraits {
        heads_only(PhaseMask::NONE.with(self.phase))
    }

    fn keeps_sessions(&self) -> bool {
        false
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let exchange = call.exchange;
        Pending::Ready(match &self.changes {
            Changes::Constant(ops) => conclude(exchange, ops, Outcome::Next),
            Changes::Rendered(changes) => {
                let ops: Result<Vec<Op>, String> =
                    changes.iter().map(|change| change.op(&exchange)).collect();
                match ops {
                    Ok(ops) => conclude(exchange, &ops, Outcome::Next),
                    Err(why) => fail(exchange, FailureKind::Raised, why),
                }
            }
        })
    }
}
