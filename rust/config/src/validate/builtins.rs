//! Built-ins: from their payload as written to their settings as run.

use nylon_core::Phase;

use super::directory::Directory;
use crate::{plan, raw, report::Report};

/// Media types and levels.
mod compress;
/// Origins.
mod cors;
/// Fields of a head.
mod headers;
/// Targets.
mod redirect;
/// The name of a request.
mod request_id;
/// Users who log in.
mod basic_auth;
/// Requests by the client's address.
mod ip_filter;
/// Tokens.
mod jwt_auth;
/// How many requests are let through.
mod rate_limit;

/// The connections to brokers that a built-in can refer to.
pub(super) struct Brokers<'a> {
    pub(super) written: &'a [raw::Messaging],
    pub(super) names: &'a Directory,
}

/// What a built-in does. `None`: something is wrong with it, and reported.
pub(super) fn builtin(
    written: &raw::Builtin,
    brokers: &Brokers<'_>,
    report: &mut Report<'_>,
) -> Option<plan::Builtin> {
    use plan::Builtin::*;
    match written {
        raw::Builtin::RequestHeaderModifier(written) => {
            headers::changes(written, report).map(RequestHeaderModifier)
        }
        raw::Builtin::ResponseHeaderModifier(written) => {
            headers::changes(written, report).map(ResponseHeaderModifier)
        }
        raw::Builtin::Cors(written) => cors::cors(written, report).map(Cors),
        raw::Builtin::Redirect(written) => redirect::redirect(written, report).map(Redirect),
        raw::Builtin::RequestId(written) => request_id::request_id(written, report).map(RequestId),
        raw::Builtin::Compress(written) => compress::compress(written, report).map(Compress),
        raw::Builtin::RateLimit(written) => {
            rate_limit::rate_limit(written, brokers, report).map(Box::new).map(RateLimit)
        }
        raw::Builtin::IpFilter(written) => ip_filter::ip_filter(written, report).map(IpFilter),
        raw::Builtin::BasicAuth(written) => basic_auth::basic_auth(written, report).map(BasicAuth),
        raw::Builtin::JwtAuth(written) => jwt_auth::jwt_auth(written, report).map(Box::new).map(JwtAuth),
    }
}

/// What makes no sense in the `per_phase` of a built-in.
pub(super) fn check_policies(builtin: &plan::Builtin, written: &raw::PerPhase, report: &mut Report<'_>) {
    for (phase, policy) in [
        (Phase::RequestFilter, &written.request_filter),
        (Phase::ResponseFilter, &written.response_filter),
        (Phase::ResponseBodyFilter, &written.response_body_filter),
        (Phase::Logging, &written.logging),
    ] {
        let Some(policy) = policy else { continue };
        if !builtin.phases().contains(phase) {
            report.warn(
                policy.place,
                format!("`{}` is not called in `{phase}`: this has no effect", builtin.name()),
            );
        }
        if let (plan::Builtin::BasicAuth(_) | plan::Builtin::JwtAuth(_), Phase::RequestFilter, Some(on_error)) =
            (builtin, phase, &policy.on_error)
            && on_error.value == raw::OnError::Continue
        {
            report.warn(
                on_error.place,
                format!("with `continue`, whoever `{}` cannot judge is let through", builtin.name()),
            );
        }
        if let (plan::Builtin::Compress(_), Phase::ResponseBodyFilter, Some(on_error)) =
            (builtin, phase, &policy.on_error)
            && on_error.value == raw::OnError::Continue
        {
            report.error_help(
                on_error.place,
                "a body of which half is compressed is no body: it cannot go on after a failure",
                "leave it at `fail`",
            );
        }
    }
}
