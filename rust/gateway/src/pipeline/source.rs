//! The request body on its way to whoever asks first: a handler that wants it whole, or the service, which
//! gets it streamed if nobody wanted it before.

use crate::downstream::{ClientBody, ClientBodyError};
use crate::plugin::BodySource;
use crate::upstream::ForwardBody;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http_body::Body;
use nylon_core::{Failure, FailureKind, RequestBody};

/// The request body of one exchange.
pub(super) struct RequestSource {
    client: Option<ClientBody>,
    read: Option<Result<Bytes, Failure>>,
    limit: usize,
}

impl RequestSource {
    /// `limit` bounds what is held in memory for handlers.
    pub(super) fn new(client: ClientBody, limit: usize) -> RequestSource {
        RequestSource { client: Some(client), read: None, limit }
    }

    /// Puts what was read into an exchange that came back from a host without it.
    pub(super) fn restore(&self, body: &mut RequestBody) {
        if let (RequestBody::Unread, Some(Ok(bytes))) = (&*body, &self.read) {
            *body = RequestBody::Read(bytes.clone());
        }
    }

    /// Why the body could not be read, where somebody tried and failed.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.read.as_ref().and_then(|read| read.as_ref().err().cloned())
    }

    /// What goes to the service.
    pub(super) fn forward(&mut self, body: &RequestBody) -> ForwardBody {
        match (body.bytes(), self.client.take()) {
            (Some(bytes), _) if bytes.is_empty() => ForwardBody::Empty,
            (Some(bytes), _) => ForwardBody::Bytes(bytes.clone()),
            (None, Some(client)) if !client.is_end_stream() => ForwardBody::Client(client),
            (None, _) => ForwardBody::Empty,
        }
    }
}

impl BodySource for RequestSource {
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Bytes, Failure>> {
        Box::pin(async move {
            if let Some(read) = &self.read {
                return read.clone();
            }
            let result = match &mut self.client {
                Some(client) => {
                    client.read_all(self.limit).await.map_err(|error| failure(&error, self.limit))
                }
                None => Ok(Bytes::new()),
            };
            self.client = None;
            self.read = Some(result.clone());
            result
        })
    }

    fn limit(&self) -> usize {
        self.limit
    }
}

fn failure(error: &ClientBodyError, limit: usize) -> Failure {
    match error {
        ClientBodyError::TooLarge => Failure::new(
            FailureKind::BodyTooLarge,
            format!("the request body is over limits.max_body_bytes ({limit} bytes)"),
        ),
        ClientBodyError::TimedOut | ClientBodyError::Broken(_) => {
            Failure::new(FailureKind::BodyUnreadable, error.to_string())
        }
    }
}
