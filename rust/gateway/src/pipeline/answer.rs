//! From the end of the request phase to a response that is ready to be sent.

use super::body::{OutBody, Source};
use super::flow::{Flow, Verdict};
use super::live::{Link, LivePlan, LiveService};
use super::service_body::{Broken, ServiceBody};
use super::whole::{WholeBody, too_large};
use crate::downstream::Upgrade;
use crate::files::Files;
use crate::plugin::BodyUse;
use crate::respond::{self, ErrorAnswer};
use crate::upstream::{Outgoing, forward};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Version, header};
use nylon_core::{Chunk, Exchange, Failure, FailureKind, Phase, PhaseMask, ResponseBody, TargetPart};
use std::sync::Arc;

/// The phases that follow the service.
const LATER: [Phase; 3] = [Phase::ResponseFilter, Phase::ResponseBodyFilter, Phase::Logging];

/// What the service needs beside the exchange.
pub(super) struct Onward {
    pub(super) upgrade: Option<Upgrade>,
    pub(super) rewrite: Option<Rewritten>,
}

/// Another path for the service.
pub(super) struct Rewritten {
    /// The path before any handler ran: a handler that changes it overrules the route's rewrite.
    pub(super) from: TargetPart,
    pub(super) to: TargetPart,
}

impl Onward {
    /// Rewrites the path for the service, unless a handler has changed it.
    fn rewrite(&mut self, path: &mut TargetPart) {
        if let Some(rewrite) = self.rewrite.take_if(|rewrite| *path == rewrite.from) {
            *path = rewrite.to;
        }
    }
}

/// Takes an exchange through all that comes between its `request_filter` and sending.
pub(super) async fn run(mut flow: Box<Flow>, verdict: Verdict, onward: Onward) -> Response<OutBody> {
    let service = match verdict {
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
    async fn service(&mut self, mut onward: Onward) -> Option<ServiceBody> {
        let live = self.live.clone();
        let service = match &live.rules[self.rule].service {
            LiveService::Http(service) => service,
            LiveService::Files(files) => return self.file(files, onward).await,
            LiveService::Plugin => return self.unanswered(),
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
        onward.rewrite(&mut head.path);
        let client = self.exchange().facts.client_ip;
        let mut out = Outgoing { head, body: forward_body, client, upgrade: onward.upgrade };
        let asked_for_head = out.head.method == Method::HEAD;
        match forward(&self.worker, service, &mut out).await {
            Ok(forwarded) => {
                self.exchange_mut().response = forwarded.head;
                if asked_for_head && self.client_method != Method::HEAD {
                    return self.headless();
                }
                Some(ServiceBody::Upstream(forwarded.body))
            }
            Err(error) => {
                tracing::warn!(request_id = %self.exchange().facts.id, service = %service.name(), "{error}");
                self.exchange_mut().sent.error = Some(error.to_string().into());
                self.answer(respond::upstream_failure(&error));
                respond::retry_after(&error, &mut self.exchange_mut().response.headers);
                None
            }
        }
    }

    /// A handler made it a HEAD: no body comes, and the head must not promise one.
    fn headless(&mut self) -> Option<ServiceBody> {
        self.exchange_mut().response_body = ResponseBody::Replaced(Bytes::new());
        None
    }

    /// Fails an exchange whose service is a plugin that has not answered.
    fn unanswered(&mut self) -> Option<ServiceBody> {
        let failure = Failure::new(
            FailureKind::Undecided,
            "the entry of a plugin service has to answer with ctx.end(): there is nothing behind it",
        );
        self.exchange_mut().sent.error = Some(failure.to_string().into());
        tracing::warn!(request_id = %self.exchange().facts.id, "{failure}");
        self.answer(respond::plugin_failure(failure.kind));
        None
    }

    /// Answers with a file.
    async fn file(&mut self, files: &Files, mut onward: Onward) -> Option<ServiceBody> {
        let mut head = self.exchange().request.clone();
        onward.rewrite(&mut head.path);
        match files.serve(&head, self.exchange().facts.id).await {
            Ok((response, body)) => {
                self.exchange_mut().response = response;
                if head.method == Method::HEAD && self.client_method != Method::HEAD {
                    return self.headless();
                }
                Some(ServiceBody::File(body))
            }
            Err(answer) => {
                self.exchange_mut().sent.error = Some(answer.text.into());
                self.answer(answer);
                None
            }
        }
    }

    /// Whether nothing is left to do but to forward the request: no phase follows, and the answer goes as it comes.
    pub(super) fn is_through(&self) -> bool {
        let later = LATER.into_iter().fold(PhaseMask::NONE, PhaseMask::with);
        let handles = |(index, link): (usize, &Link)| {
            !self.is_skipped(index) && link.entry.traits().phases.intersects(later)
        };
        // A handler that changes the method changes what may follow a head.
        self.exchange().request.method == self.client_method
            && matches!(self.rule().service, LiveService::Http(_))
            && !self.rule().links.iter().enumerate().any(handles)
    }

    /// What goes to the service of an exchange that is through, and the plan that has the service.
    pub(super) fn into_outgoing(mut self: Box<Self>, mut onward: Onward) -> (Outgoing, Arc<LivePlan>) {
        let Exchange { facts, request: mut head, request_body, .. } = *self.take_exchange();
        onward.rewrite(&mut head.path);
        let (body, client) = (self.body.forward(&request_body), facts.client_ip);
        (Outgoing { head, body, client, upgrade: onward.upgrade }, self.live)
    }

    fn is_needed_later(&self) -> bool {
        LATER.into_iter().any(|phase| !self.owed(phase).is_empty())
    }

    /// Runs `response_body_filter` as far as it comes before the head, and makes the response.
    async fn body_phase(mut self: Box<Self>, service: Option<ServiceBody>) -> Response<OutBody> {
        let filters = self.owed(Phase::ResponseBodyFilter);
        if self.has_no_body() {
            let deciding =
                filters.into_iter().filter(|index| self.body_use(*index) == BodyUse::ByChunkIfWanted);
            let encoded = match self.wanting(deciding.collect()).await {
                Ok(wanting) => !wanting.is_empty(),
                Err(answer) => return self.answer_instead(answer),
            };
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
                && !encoded
            {
                self.exchange_mut().response.headers.insert(header::CONTENT_LENGTH, length.into());
            }
            return match service {
                Some(body) if !own => self.respond(OutBody::service(body)),
                _ => self.respond(OutBody::full(Bytes::new())),
            };
        }
        let touched = self.rule().links.iter().any(|link| link.handles(Phase::ResponseFilter));
        let source = match (&self.exchange().response_body, service) {
            (ResponseBody::Streaming, service) => Source { service, ..Source::default() },
            (body, _) => Source { prefix: body.bytes().cloned(), ..Source::default() },
        };
        let uses: Vec<BodyUse> = filters.iter().map(|index| self.body_use(*index)).collect();
        let asked_first = uses.iter().take_while(|&&uses| uses == BodyUse::OnDemand).count();
        if uses[asked_first..].iter().all(|&uses| uses.is_by_chunk()) {
            let mut asked = filters;
            let by_chunk = asked.split_off(asked_first);
            return self.filter_on_demand(source, asked, by_chunk, touched).await;
        }
        self.drop_framing();
        let mut whole = WholeBody::new(source, self.live.plan.limits.max_body_bytes);
        if let Some(bytes) = whole.read_on().await {
            let trailers = whole.take_trailers();
            let filtered = self.filter_whole(bytes.clone(), &filters).await;
            self.drop_framing();
            // What was said of a body does not hold for another in its place.
            let trailers = trailers.filter(|_| filtered == bytes);
            return self.respond_whole(filtered, trailers);
        }
        if let Some(broken) = whole.broken {
            return self.answer_broken(broken);
        }
        let (unwhole, others): (Vec<_>, Vec<_>) =
            filters.into_iter().partition(|index| self.body_use(*index) == BodyUse::Whole);
        let mut fail = false;
        for index in unwhole {
            fail |= matches!(self.judge(index, Phase::ResponseBodyFilter, too_large()), Verdict::Fail(_));
        }
        if fail {
            return self.answer_instead(respond::RESPONSE_TOO_LARGE);
        }
        let (asked, by_chunk) =
            others.into_iter().partition(|index| self.body_use(*index) == BodyUse::OnDemand);
        self.filter_on_demand(whole.into_source(), asked, by_chunk, touched).await
    }

    fn body_use(&self, index: usize) -> BodyUse {
        self.link(index).entry.traits().response_body
    }

    /// Calls the filters that may ask for the body, and then leaves what there is of it to those that take it by chunk.
    async fn filter_on_demand(
        mut self: Box<Self>,
        mut source: Source,
        asked: Vec<usize>,
        mut by_chunk: Vec<usize>,
        touched: bool,
    ) -> Response<OutBody> {
        let reframed = touched || !asked.is_empty() || !by_chunk.is_empty();
        for index in asked {
            let mut body = WholeBody::new(source, self.live.plan.limits.max_body_bytes);
            let verdict = self.call_with(index, Phase::ResponseBodyFilter, &mut body).await;
            let too_large = body.too_large;
            if let Some(broken) = body.broken.take() {
                return self.answer_broken(broken);
            }
            source = match &self.exchange().response_body {
                ResponseBody::Replaced(bytes) => Source { prefix: Some(bytes.clone()), ..Source::default() },
                _ => body.into_source(),
            };
            match verdict {
                Verdict::Next => {}
                Verdict::End => {
                    by_chunk.clear();
                    break;
                }
                Verdict::Fail(_) if too_large => return self.answer_instead(respond::RESPONSE_TOO_LARGE),
                Verdict::Fail(kind) => return self.answer_instead(respond::plugin_failure(kind)),
            }
        }
        let by_chunk = match self.wanting(by_chunk).await {
            Ok(wanting) => wanting,
            Err(answer) => return self.answer_instead(answer),
        };
        if !by_chunk.is_empty() || source.prefix.is_some() && source.service.is_some() {
            self.drop_framing();
            return self.respond_filtered(source, by_chunk);
        }
        match source {
            Source { prefix: None, service: Some(body), .. } => {
                if reframed || body.is_handlers() {
                    self.drop_framing();
                }
                self.respond(OutBody::service(body))
            }
            Source { prefix, trailers, .. } => {
                self.drop_framing();
                self.respond_whole(prefix.unwrap_or_default(), trailers)
            }
        }
    }

    /// Lets those filters that take a body by chunk if they want to decide by the head. What comes back are those that take
    /// it, in their order.
    async fn wanting(&mut self, by_chunk: Vec<usize>) -> Result<Vec<usize>, ErrorAnswer> {
        let mut wanting = Vec::with_capacity(by_chunk.len());
        for index in by_chunk {
            if self.body_use(index) == BodyUse::ByChunk {
                wanting.push(index);
                continue;
            }
            let verdict = self.call(index, Phase::ResponseBodyFilter).await;
            if self.takes_chunks(index) {
                wanting.push(index);
            }
            match verdict {
                Verdict::Next => {}
                Verdict::End => break,
                Verdict::Fail(kind) => return Err(respond::plugin_failure(kind)),
            }
        }
        Ok(wanting)
    }

    /// Ends an exchange whose body broke off before its head was sent.
    fn answer_broken(mut self: Box<Self>, broken: Broken) -> Response<OutBody> {
        tracing::warn!(request_id = %self.exchange().facts.id, "the response body broke off: {}", broken.text);
        self.exchange_mut().sent.error = Some(broken.text.into());
        self.answer_instead(broken.answer)
    }

    /// Sends an answer of the gateway's own, past the filters that are left.
    fn answer_instead(mut self: Box<Self>, answer: ErrorAnswer) -> Response<OutBody> {
        self.answer(answer);
        let bytes = self.exchange().response_body.bytes().cloned().unwrap_or_default();
        self.respond(OutBody::full(bytes))
    }

    /// Takes a whole body through the filters. A streaming one among them gets it by chunk all the same.
    async fn filter_whole(&mut self, mut bytes: Bytes, filters: &[usize]) -> Bytes {
        for &index in filters {
            let mut verdict = Verdict::Next;
            let by_chunk = self.body_use(index) == BodyUse::ByChunk;
            if !by_chunk {
                self.exchange_mut().response_body = ResponseBody::Read(bytes.clone());
                verdict = self.call(index, Phase::ResponseBodyFilter).await;
                bytes = self.exchange().response_body.bytes().cloned().unwrap_or(bytes);
            }
            if by_chunk || self.takes_chunks(index) && matches!(verdict, Verdict::Next) {
                let mut chunk = Chunk { data: bytes, end_of_stream: true };
                verdict = self.filter_pieces(index, &mut chunk).await;
                bytes = chunk.data;
            }
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

    /// Sends a body that is here, with its trailers if the client takes any.
    fn respond_whole(self: Box<Self>, bytes: Bytes, trailers: Option<HeaderMap>) -> Response<OutBody> {
        let request = &self.exchange().request;
        let takes = request.version >= Version::HTTP_2 || request.headers.contains_key(header::TE);
        match trailers.filter(|_| takes) {
            Some(trailers) => self.respond(OutBody::trailed(bytes, trailers)),
            None => self.respond(OutBody::full(bytes)),
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
        if body.is_bare() {
            self.exchange_mut().response.headers.remove(header::TRAILER);
        }
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
