//! How phases are called: the defaults, and what a plugin, its connection and a middleware change of them.

use std::time::Duration;

use crate::{
    plan::{OnError, PhasePolicy, Policies, Retry},
    raw,
    report::Report,
};

fn policy(timeout_ms: u64, on_error: OnError, retry: (u32, u64, u64)) -> PhasePolicy {
    PhasePolicy {
        timeout: Duration::from_millis(timeout_ms),
        on_error,
        retry: Retry {
            max: retry.0,
            backoff_initial: Duration::from_millis(retry.1),
            backoff_max: Duration::from_millis(retry.2),
        },
        idempotent: true,
    }
}

/// The policies of a plugin whose configuration says nothing.
pub(super) fn defaults() -> Policies {
    Policies {
        request_filter: policy(5_000, OnError::Fail, (3, 100, 1_000)),
        response_filter: policy(3_000, OnError::Fail, (2, 50, 500)),
        response_body_filter: policy(3_000, OnError::Fail, (2, 50, 500)),
        logging: policy(3_000, OnError::Continue, (0, 50, 500)),
    }
}

/// What a messaging connection says for the filters of its plugins; logging is nobody's wait and keeps its own.
pub(super) fn apply_broker(policies: &mut Policies, broker: &raw::Messaging) {
    for policy in
        [&mut policies.request_filter, &mut policies.response_filter, &mut policies.response_body_filter]
    {
        if let Some(timeout) = broker.request_timeout_ms {
            policy.timeout = super::millis(timeout);
        }
        if let Some(retry) = &broker.retry {
            apply_retry(&mut policy.retry, retry);
        }
    }
}

/// What `per_phase` changes.
pub(super) fn apply(policies: &mut Policies, written: &raw::PerPhase) {
    for (policy, written) in [
        (&mut policies.request_filter, &written.request_filter),
        (&mut policies.response_filter, &written.response_filter),
        (&mut policies.response_body_filter, &written.response_body_filter),
        (&mut policies.logging, &written.logging),
    ] {
        let Some(written) = written else { continue };
        if let Some(timeout) = written.timeout_ms {
            policy.timeout = super::millis(timeout);
        }
        if let Some(on_error) = &written.on_error {
            policy.on_error = match on_error.value {
                raw::OnError::Continue => OnError::Continue,
                raw::OnError::Fail | raw::OnError::Retry | raw::OnError::End => OnError::Fail,
            };
        }
        if let Some(retry) = &written.retry {
            apply_retry(&mut policy.retry, retry);
        }
        if let Some(idempotent) = &written.idempotent {
            policy.idempotent = idempotent.value;
        }
    }
}

fn apply_retry(retry: &mut Retry, written: &raw::Retry) {
    if let Some(max) = written.max {
        retry.max = u32::try_from(max.value).unwrap_or(u32::MAX);
    }
    if let Some(initial) = written.backoff_ms_initial {
        retry.backoff_initial = super::millis(initial);
        retry.backoff_max = retry.backoff_max.max(retry.backoff_initial);
    }
    if let Some(max) = written.backoff_ms_max {
        retry.backoff_max = super::millis(max);
        retry.backoff_initial = retry.backoff_initial.min(retry.backoff_max);
    }
}

/// What is wrong or without effect in `per_phase`; `losing` says whether calls can get lost at all.
pub(super) fn check(written: &raw::PerPhase, losing: bool, report: &mut Report<'_>) {
    let phases = [
        (&written.request_filter, false),
        (&written.response_filter, false),
        (&written.response_body_filter, false),
        (&written.logging, true),
    ];
    for (policy, logging) in phases {
        let Some(policy) = policy else { continue };
        if let Some(retry) = &policy.retry {
            check_retry(retry, report);
            if !losing {
                report.warn(
                    retry.place,
                    "`retry` has no effect on a plugin in the gateway's process: no call gets lost",
                );
            }
        }
        let retries = policy.retry.as_ref().and_then(|retry| retry.max).map_or(!logging, |max| max.value > 0);
        if let Some(on_error) = &policy.on_error
            && on_error.value == raw::OnError::Retry
            && losing
            && !retries
        {
            report.warn(on_error.place, "`on_error: retry` without `retry: {max: ...}` means `fail` here");
        }
    }
}

pub(super) fn check_retry(retry: &raw::Retry, report: &mut Report<'_>) {
    if let (Some(initial), Some(max)) = (retry.backoff_ms_initial, retry.backoff_ms_max)
        && initial.value > max.value
    {
        report.error(
            initial.place,
            format!("`backoff_ms_initial` ({}) is more than `backoff_ms_max` ({})", initial.value, max.value),
        );
    }
}
