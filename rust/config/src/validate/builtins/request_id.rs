//! `RequestId`.

use super::headers::changeable;
use crate::{plan::RequestIdField, raw, report::Report};

pub(super) fn request_id(written: &raw::RequestId, report: &mut Report<'_>) -> Option<RequestIdField> {
    Some(RequestIdField {
        header: changeable(written.header.as_ref()?, report)?,
        trust_incoming: written.trust_incoming.as_ref().is_some_and(|flag| flag.value),
        response: written.response.as_ref().is_some_and(|flag| flag.value),
    })
}
