//! Built-ins: from their payload as written to their settings as run.

use crate::{plan, raw, report::Report};

/// Fields of a head.
mod headers;

/// What a built-in does. `None`: something is wrong with it, and reported.
pub(super) fn builtin(written: &raw::Builtin, report: &mut Report<'_>) -> Option<plan::Builtin> {
    use plan::Builtin::*;
    match written {
        raw::Builtin::RequestHeaderModifier(written) => {
            headers::changes(written, report).map(RequestHeaderModifier)
        }
    }
}
