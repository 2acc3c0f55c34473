//! A response body that is read whole, up to a limit, for filters that want it so.
//!
//! What was read stays here, however far it came: a body that nobody waits for any more, or that is too large, goes on
//! its way with all its bytes.

use super::body::Source;
use super::service_body::{Broken, ServiceBody};
use crate::plugin::BodySource;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use nylon_core::{Failure, FailureKind};

/// A body on its way to being whole.
pub(super) struct WholeBody {
    held: Bytes,
    /// What is read of the rest, until it is whole.
    growing: Vec<u8>,
    service: Option<ServiceBody>,
    trailers: Option<HeaderMap>,
    limit: usize,
    /// Why it will never be whole.
    pub(super) broken: Option<Broken>,
    pub(super) too_large: bool,
}

impl WholeBody {
    pub(super) fn new(source: Source, limit: usize) -> WholeBody {
        WholeBody {
            held: source.prefix.unwrap_or_default(),
            growing: Vec::new(),
            service: source.service,
            trailers: source.trailers,
            limit,
            broken: None,
            too_large: false,
        }
    }

    /// Reads the rest. `None` where it broke off or is too large; dropping the future loses nothing.
    pub(super) async fn read_on(&mut self) -> Option<Bytes> {
        if self.broken.is_some() {
            return None;
        }
        while let Some(service) = &mut self.service {
            let held = self.held.len() + self.growing.len();
            let announced = service.size_hint().exact().unwrap_or(0);
            self.too_large = held > self.limit || announced > (self.limit - held) as u64;
            if self.too_large {
                return None;
            }
            match service.frame().await {
                None => self.service = None,
                Some(Err(broken)) => {
                    self.broken = Some(broken);
                    return None;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.growing.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
        self.settle();
        Some(self.held.clone())
    }

    fn settle(&mut self) {
        if !self.growing.is_empty() {
            let growing = std::mem::take(&mut self.growing);
            self.held = if self.held.is_empty() {
                growing.into()
            } else {
                [&self.held[..], &growing].concat().into()
            };
        }
    }

    /// What stands behind a body that was read.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// All that is here, and what is not.
    pub(super) fn into_source(mut self) -> Source {
        self.settle();
        let untouched = self.held.is_empty() && self.service.is_some();
        Source { prefix: (!untouched).then_some(self.held), service: self.service, trailers: self.trailers }
    }
}

impl BodySource for WholeBody {
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Bytes, Failure>> {
        Box::pin(async move {
            if let Some(bytes) = self.read_on().await {
                return Ok(bytes);
            }
            Err(match &self.broken {
                Some(broken) => Failure::new(FailureKind::BodyUnreadable, broken.text.clone()),
                None => too_large(),
            })
        })
    }

    fn limit(&self) -> usize {
        self.limit
    }
}

/// For the log, of a body that a filter cannot have.
pub(super) fn too_large() -> Failure {
    let text = "the response body is over limits.max_body_bytes; with stream=True it has no limit";
    Failure::new(FailureKind::BodyTooLarge, text)
}
