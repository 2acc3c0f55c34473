//! From the end of the request phase to a response that is ready to be sent.

use super::body::{OutBody, Source};
use super::flow::{Flow, Verdict};
use super::live::LiveService;
use super::service_body::{Broken, ServiceBody};
use crate::downstream::Upgrade;
use crate::respond;
use crate::upstream::{Outgoing, forward};
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use nylon_core::{Chunk, Failure, FailureKind, Phase, ResponseBody, TargetPart};

/// What the service needs beside the exchange.
pub(super) struct Onward {
    pub(super) upgrade: Option<Upgrade>,
    /// The path before any handler ran: a handler that changes it overrules the route's rewrite.
    pub(super) client_path: TargetPart,
    pub(super) rewritten: Option<TargetPart>,
}

/// Takes an exchange through all that comes before sending.
pub(super) async fn run(flow: Flow, onward: Onward) -> Response<OutBody> {
    let mut flow = Box::new(flow);
    let service = match flow.request_phase().await {
        Verdict::End => flow.stream.take().map(ServiceBody::Handler),
        Verdict::Fail(kind) => {
            flow.answer(respond::plugin_failure(kind));
            None
        }
        Verdict::Next => flow.service(onward).await,
    };
    flow.response_phase().await;
    flow.body_phase(service).await
}

impl Flow {
    /// Calls the service. Its failure becomes a response that passes the filters like any other.
    async fn service(&mut self, onward: Onward) -> Option<ServiceBody> {
        let live = self.live.clone();
        let LiveService::Http(service) = &live.rules[self.rule].service else {
            let failure = Failure::new(
                FailureKind::Undecided,
                "the entry of a plugin service has to answer with ctx.end(): there is nothing behind it",
            );
            self.exchange_mut().sent.error = Some(failure.to_string().into());
            tracing::warn!(request_id = %self.exchange().facts.id, "{failure}");
            self.answer(respond::plugin_failure(failure.kind));
            return None;
        };
        let needed_later = self.is_needed_later();
        let body = std::mem::take(&mut self.exchange_mut().request_body);
        let forward_body = self.body.forward(&body);
        let exchange = self.exchange_mut();
        exchange.request_body = body;
        let mut head = if needed_later {
            exchange.request.clone()
        } else {
            let headers = std::mem::take(&mut exchange.request.headers);
            let mut head = exchange.request.clone();
            head.headers = headers;
            head
        };
        if let Some(path) = onward.rewritten
            && head.path == onward.client_path
        {
            head.path = path;
        }
        let mut out = Outgoing { head, body: forward_body, upgrade: onward.upgrade };
        let asked_for_head = out.head.method == Method::HEAD;
        match forward(&self.worker, service, &mut out).await {
            Ok(forwarded) => {
                self.exchange_mut().response = forwarded.head;
                if asked_for_head && self.client_method != Method::HEAD {
                    // A handler made it a HEAD: no body comes, and the head must not promise one.
                    self.exchange_mut().response_body = ResponseBody::Replaced(Bytes::new());
                    return None;
                }
                Some(ServiceBody::Upstream(forwarded.body))
            }
            Err(error) => {
                tracing::warn!(request_id = %self.exchange().facts.id, service = %service.name(), "{error}");
                self.exchange_mut().sent.error = Some(error.to_string().into());
                self.answer(respond::upstream_failure(&error));
                None
            }
        }
    }

    fn is_needed_later(&self) -> bool {
        [Phase::ResponseFilter, Phase::ResponseBodyFilter, Phase::Logging]
            .into_iter()
            .any(|phase| !self.owed(phase).is_empty())
    }

    /// Runs `response_body_filter` as far as it comes before the head, and makes the response.
    async fn body_phase(mut self: Box<Self>, service: Option<ServiceBody>) -> Response<OutBody> {
        if self.has_no_body() {
            // What a handler would write is wanted by nobody, which its next write tells it.
            let service = service.filter(|body| !body.is_handlers());
            // What the head says of the body (a HEAD's or a 304's content-length) stays the service's word.
            let own = matches!(self.exchange().response_body, ResponseBody::Replaced(_));
            if own || service.is_none() {
                self.drop_framing();
            }
            let length = self.exchange().response_body.bytes().map(Bytes::len);
            if let Some(length) = length
                && self.client_method == Method::HEAD
            {
                self.exchange_mut().response.headers.insert(header::CONTENT_LENGTH, length.into());
            }
            return match service {
                Some(body) if !own => self.respond(OutBody::service(body)),
                _ => self.respond(OutBody::full(Bytes::new())),
            };
        }
        let touched = self.rule().links.iter().any(|link| link.handles(Phase::ResponseFilter));
        let filters = self.owed(Phase::ResponseBodyFilter);
        let source = match (&self.exchange().response_body, service) {
            (ResponseBody::Streaming, service) => Source { prefix: None, service },
            (body, _) => Source { prefix: body.bytes().cloned(), service: None },
        };
        if filters.is_empty() {
            return match source {
                Source { prefix: None, service: Some(body) } => {
                    if touched || body.is_handlers() {
                        self.drop_framing();
                    }
                    self.respond(OutBody::service(body))
                }
                Source { prefix, .. } => {
                    self.drop_framing();
                    self.respond(OutBody::full(prefix.unwrap_or_default()))
                }
            };
        }
        self.drop_framing();
        let streams = |flow: &Flow, index: &usize| flow.link(*index).entry.traits().stream;
        if filters.iter().all(|index| streams(&self, index)) {
            return self.respond_filtered(source, filters);
        }
        match self.buffer(source).await {
            Buffered::Whole(bytes) => {
                let bytes = self.filter_whole(bytes, &filters).await;
                self.drop_framing();
                self.respond(OutBody::full(bytes))
            }
            Buffered::TooLarge(source) => {
                let (by_chunk, whole): (Vec<_>, Vec<_>) =
                    filters.into_iter().partition(|i| streams(&self, i));
                let mut fail = false;
                for index in whole {
                    let text =
                        "the response body is over limits.max_body_bytes; with stream=True it has no limit";
                    let failure = Failure::new(FailureKind::BodyTooLarge, text);
                    fail |= matches!(self.judge(index, Phase::ResponseBodyFilter, failure), Verdict::Fail(_));
                }
                if fail {
                    self.answer(respond::RESPONSE_TOO_LARGE);
                    let bytes = self.exchange().response_body.bytes().cloned().unwrap_or_default();
                    return self.respond(OutBody::full(bytes));
                }
                self.respond_filtered(source, by_chunk)
            }
            Buffered::Failed(broken) => {
                tracing::warn!(request_id = %self.exchange().facts.id, "the response body broke off: {}", broken.text);
                self.exchange_mut().sent.error = Some(broken.text.into());
                self.answer(broken.answer);
                let bytes = self.exchange().response_body.bytes().cloned().unwrap_or_default();
                self.respond(OutBody::full(bytes))
            }
        }
    }

    /// Takes a whole body through the filters. A streaming one among them gets it by chunk all the same.
    async fn filter_whole(&mut self, mut bytes: Bytes, filters: &[usize]) -> Bytes {
        for &index in filters {
            let verdict = if self.link(index).entry.traits().stream {
                let mut chunk = Chunk { data: bytes, end_of_stream: true };
                let verdict = self.filter_pieces(index, &mut chunk).await;
                bytes = chunk.data;
                verdict
            } else {
                self.exchange_mut().response_body = ResponseBody::Read(bytes.clone());
                let verdict = self.call(index, Phase::ResponseBodyFilter).await;
                bytes = self.exchange().response_body.bytes().cloned().unwrap_or(bytes);
                verdict
            };
            match verdict {
                Verdict::Next => {}
                Verdict::End => break,
                Verdict::Fail(kind) => {
                    self.answer(respond::plugin_failure(kind));
                    return self.exchange().response_body.bytes().cloned().unwrap_or_default();
                }
            }
        }
        bytes
    }

    async fn buffer(&self, mut source: Source) -> Buffered {
        let limit = self.live.plan.limits.max_body_bytes;
        let Some(mut service) = source.service.take() else {
            return Buffered::Whole(source.prefix.unwrap_or_default());
        };
        if service.size_hint().exact().is_some_and(|length| length > limit as u64) {
            return Buffered::TooLarge(Source { prefix: None, service: Some(service) });
        }
        let mut whole = Vec::new();
        loop {
            match service.frame().await {
                None => return Buffered::Whole(whole.into()),
                Some(Err(broken)) => return Buffered::Failed(broken),
                Some(Ok(frame)) => {
                    // Trailers cannot follow a body whose filters may have changed it.
                    let Ok(data) = frame.into_data() else { continue };
                    whole.extend_from_slice(&data);
                    if whole.len() > limit {
                        return Buffered::TooLarge(Source {
                            prefix: Some(whole.into()),
                            service: Some(service),
                        });
                    }
                }
            }
        }
    }

    /// No body follows these heads (RFC 9112, 6.3).
    fn has_no_body(&self) -> bool {
        let status = self.exchange().response.status;
        self.client_method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// The gateway frames the message itself, whatever a handler wrote about it.
    fn drop_framing(&mut self) {
        let headers = &mut self.exchange_mut().response.headers;
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
    }

    fn respond_filtered(mut self: Box<Self>, source: Source, filters: Vec<usize>) -> Response<OutBody> {
        let head = self.exchange_mut().response.clone();
        respond_with(head, OutBody::filtered(self, source, filters))
    }

    fn respond(mut self: Box<Self>, body: OutBody) -> Response<OutBody> {
        // A handler that still writes keeps its plan, and with it what runs it.
        if self.owed(Phase::Logging).is_empty() && !body.is_handlers() {
            return respond_with(std::mem::take(&mut self.exchange_mut().response), body);
        }
        respond_with(self.exchange().response.clone(), body.owing(self))
    }
}

fn respond_with(head: nylon_core::ResponseHead, body: OutBody) -> Response<OutBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

enum Buffered {
    Whole(Bytes),
    /// What was read so far, and the rest.
    TooLarge(Source),
    Failed(Broken),
}
