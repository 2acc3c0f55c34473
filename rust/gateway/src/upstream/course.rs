//! Where a request has been, and where it may go next.
//!
//! An endpoint that cannot be reached has got nothing of the request, so the next one is asked at once, as long as there
//! are others: this costs no attempt. What was sent already is sent once more only where the service's `retry` says so,
//! as often as it says and as far as its budget reaches, and never after the time that the whole request has.

use super::balance::{Endpoint, HttpService, Key, Seat};
use super::error::ForwardError;
use http::StatusCode;
use nylon_config::plan::{RequestRetry, RetryStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause before an endpoint is asked that was asked before; it doubles each time.
const PAUSE: Duration = Duration::from_millis(25);

/// Why a request may have to be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing was sent.
    Unsent,
    /// It broke off before an answer.
    Broken,
    /// No answer came in time.
    Late,
    /// This is the answer.
    Answered(StatusCode),
}

/// The ways of one request.
pub(super) struct Course<'s> {
    service: &'s HttpService,
    tried: Vec<Arc<Endpoint>>,
    /// Attempts that are left, by the service's `retry`.
    left: u32,
    /// Attempts that went to an endpoint for the second time.
    repeated: u32,
    /// When the whole request's time is over.
    until: Instant,
}

impl<'s> Course<'s> {
    pub(super) fn new(service: &'s HttpService) -> Course<'s> {
        let limits = service.limits();
        let until = Instant::now() + limits.connect_timeout + limits.response_head_timeout;
        let left = service.balancing().retry.as_ref().map_or(0, |retry| retry.attempts);
        Course { service, tried: Vec::new(), left, repeated: 0, until }
    }

    /// Until when an attempt may take; one that others may follow has a time of its own.
    pub(super) fn due(&self, retry: &RequestRetry) -> Instant {
        match retry.attempt_timeout {
            Some(time) if self.left > 0 && retry.on_timeout => (Instant::now() + time).min(self.until),
            _ => self.until,
        }
    }

    /// Another place for a request that failed at `seat`, if it may have one.
    pub(super) async fn next(&mut self, seat: &Seat, key: &Key<'_>, cause: Cause) -> Option<Seat> {
        if Instant::now() >= self.until {
            return None;
        }
        self.tried.push(seat.endpoint().clone());
        if cause == Cause::Unsent
            && let Ok(seat) = self.service.choose(key, &self.tried)
        {
            return Some(seat);
        }
        self.service.balancing().retry.as_ref().filter(|retry| calls(retry, cause))?;
        if self.left == 0 {
            return None;
        }
        if !self.service.may_retry() {
            tracing::debug!(service = self.service.name(), "no retry: its budget is spent");
            return None;
        }
        self.left -= 1;
        if let Ok(seat) = self.service.choose(key, &self.tried) {
            return Some(seat);
        }
        let pause = PAUSE * (1 << self.repeated.min(6));
        self.repeated += 1;
        self.tried.clear();
        sleep(pause.mul_f64(0.5 + fastrand::f64()).min(self.until - Instant::now())).await;
        self.service.choose(key, &[]).ok()
    }
}

/// Whether this calls for another attempt.
fn calls(retry: &RequestRetry, cause: Cause) -> bool {
    match cause {
        Cause::Unsent => retry.on_connect_error,
        Cause::Broken => retry.on_reset,
        Cause::Late => retry.on_timeout,
        Cause::Answered(status) => match retry.on_status {
            RetryStatus::None => false,
            RetryStatus::Gateway => matches!(status.as_u16(), 502..=504),
            RetryStatus::AllOf5xx => status.is_server_error(),
        },
    }
}

impl ForwardError {
    /// What it calls for.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self {
            ForwardError::Connect { .. } | ForwardError::ConnectTimeout { .. } => Some(Cause::Unsent),
            ForwardError::Broken { .. } => Some(Cause::Broken),
            ForwardError::ResponseTimeout { .. } => Some(Cause::Late),
            ForwardError::Invalid { .. }
            | ForwardError::Unsendable { .. }
            | ForwardError::NoUpgrade { .. }
            | ForwardError::ClientBody(_)
            | ForwardError::Down { .. }
            | ForwardError::Full { .. } => None,
        }
    }
}
