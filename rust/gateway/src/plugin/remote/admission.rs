//! A place among the calls in flight, of which there are `max_inflight`.

use super::connection::Connection;
use nylon_config::plan::Overflow;
use nylon_core::{Failure, FailureKind};
use std::time::Instant;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout_at;

/// A place among the calls in flight.
pub(super) async fn permit(
    connection: &Connection,
    deadline: Instant,
) -> Result<SemaphorePermit<'_>, Failure> {
    if let Ok(permit) = connection.permits.try_acquire() {
        return Ok(permit);
    }
    let full = || Failure::new(FailureKind::Overloaded, "max_inflight calls are in flight already");
    match connection.overflow {
        Overflow::Reject => Err(full()),
        Overflow::Queue => match timeout_at(deadline.into(), connection.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full()),
        },
    }
}
