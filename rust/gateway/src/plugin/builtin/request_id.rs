//! `RequestId`: a field that names the request, to the service and, where it is wanted, to the client.
//!
//! The name is the gateway's own, which its log has, unless one that the client brought is to be kept: whoever follows a
//! request over several systems finds it under that.

use super::ending::{conclude, pass};
use super::heads_only;
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use http::HeaderValue;
use nylon_config::plan::RequestIdField;
use nylon_core::{Op, Outcome, Phase, PhaseMask, RequestId};

/// Characters of the longest id that is kept.
const LONGEST: usize = 128;

pub(super) struct RequestIdEntry {
    field: RequestIdField,
    phases: PhaseMask,
}

impl RequestIdEntry {
    pub(super) fn new(field: RequestIdField, phases: PhaseMask) -> RequestIdEntry {
        RequestIdEntry { field, phases }
    }
}

impl PluginEntry for RequestIdEntry {
    fn traits(&self) -> EntryTraits {
        heads_only(self.phases)
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let name = &self.field.header;
        if call.call.phase == Phase::ResponseFilter {
            let kept = call.session.slot.as_ref().and_then(|slot| slot.downcast_ref::<HeaderValue>());
            let id = kept.cloned().unwrap_or_else(|| own(call.exchange.facts.id));
            let set = [Op::SetResponseHeader(name.clone(), id)];
            return Pending::Ready(conclude(call.exchange, &set, Outcome::Next));
        }
        let headers = &call.exchange.request.headers;
        let mut sent = headers.get_all(name).iter();
        if self.field.trust_incoming
            && let (Some(id), None) = (sent.next(), sent.next())
            && is_well_formed(id)
        {
            // The field may be another by the time of the response.
            if self.field.response {
                call.session.slot = Some(Box::new(id.clone()));
            }
            return Pending::Ready(pass(call.exchange));
        }
        let set = [Op::SetRequestHeader(name.clone(), own(call.exchange.facts.id))];
        Pending::Ready(conclude(call.exchange, &set, Outcome::Next))
    }
}

fn own(id: RequestId) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).expect("an id is hex digits")
}

/// What can be written into any log as it is.
fn is_well_formed(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    (1..=LONGEST).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
}
