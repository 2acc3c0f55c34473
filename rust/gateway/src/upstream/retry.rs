//! One request to a service that sends requests once more.
//!
//! Beside [`super::forward`], which it shares its steps with: what it needs (a copy of the request, times, counts)
//! would be carried by every other request too.

use super::balance::{HttpService, Seat};
use super::body::{ForwardBody, Home, SendBody};
use super::course::{Cause, Course};
use super::error::ForwardError;
use super::forward::{Forwarded, Outgoing, begin, failed, hand_over, open, receive, request, send, unsent};
use crate::worker::Worker;
use http::{Request, Response};
use hyper::body::Incoming;
use nylon_config::plan::RequestRetry;
use std::rc::Rc;
use tokio::time::timeout_at;

/// Sends a request to the endpoint of `seat`, and to others after it where `retry` says so.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    service: &HttpService,
    out: &mut Outgoing,
    mut seat: Seat,
    retry: &RequestRetry,
) -> Result<Forwarded, ForwardError> {
    service.earn_retry(retry.budget_percent);
    let mut course = Course::new(service);
    let body = std::mem::replace(&mut out.body, ForwardBody::Empty);
    let spare = body.copy().filter(|_| out.head.method.is_idempotent());
    let mut first = Some(body);
    loop {
        let body = first.take().or_else(|| spare.as_ref()?.copy());
        let body = body.expect("only a request with a spare body comes here a second time");
        let mut attempt = Attempt { worker, service, out, course: &mut course, retry, spare: &spare };
        let outcome = attempt.run(&mut seat, body).await;
        let cause = match &outcome {
            Ok((_, response)) => Some(Cause::Answered(response.status())),
            Err(error) => error.cause(),
        };
        // An endpoint that could not be reached has been left for another one already.
        if let Some(cause) = cause.filter(|cause| spare.is_some() && *cause != Cause::Unsent)
            && let Some(next) = course.next(&seat, &out.key(), cause).await
        {
            if let Err(error) = &outcome {
                tracing::warn!(service = %service.name(), "sent once more: {error}");
            }
            seat = next;
            continue;
        }
        let (home, response) = outcome?;
        return receive(worker, home, seat, response, None);
    }
}

/// One of the times that a request is sent.
struct Attempt<'a, 's> {
    worker: &'a Rc<Worker>,
    service: &'a HttpService,
    out: &'a Outgoing,
    course: &'a mut Course<'s>,
    retry: &'a RequestRetry,
    /// The body once more, if the request may be sent again.
    spare: &'a Option<ForwardBody>,
}

impl Attempt<'_, '_> {
    async fn run(
        &mut self,
        seat: &mut Seat,
        body: ForwardBody,
    ) -> Result<(Home, Response<Incoming>), ForwardError> {
        let worker = self.worker;
        let pooled = worker.pool.take(seat.address()).await;
        let reused = pooled.is_some();
        let mut home = match pooled {
            Some(connection) => Home { connection, pool: worker.pool.clone() },
            None => self.open(seat).await?,
        };
        let request =
            request(&self.out.head, self.out.head.headers.clone(), send(body, &home.connection.watch));
        let mut answer = self.send(seat, &mut home, request).await?;
        if let Err(mut error) = answer {
            // A connection that was found dead costs no attempt.
            let spare = self.spare.as_ref().and_then(ForwardBody::copy);
            let spare = spare.map(|body| send(body, &home.connection.watch));
            let again = if reused { unsent(self.out, &home, &mut error, spare) } else { None };
            let Some(mut request) = again else { return Err(failed(self.service, seat, &home, error)) };
            home = self.open(seat).await?;
            hand_over(&mut request, &home);
            answer = self.send(seat, &mut home, request).await?;
        }
        let response = answer.map_err(|error| failed(self.service, seat, &home, error))?;
        self.service.judge(seat.endpoint(), response.status().is_server_error());
        Ok((home, response))
    }

    async fn open(&mut self, seat: &mut Seat) -> Result<Home, ForwardError> {
        open(self.worker, self.service, &self.out.key(), seat, self.course).await
    }

    /// The outer error is that it took too long.
    async fn send(
        &mut self,
        seat: &Seat,
        home: &mut Home,
        request: Request<SendBody>,
    ) -> Result<Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<SendBody>>>, ForwardError>
    {
        begin(home, &request);
        let sent = home.connection.sender.try_send_request(request);
        if self.spare.is_none() {
            // Its body has all the time that its client takes.
            let answer = sent.await;
            home.connection.watch.answered();
            return Ok(answer);
        }
        let due = self.course.due(self.retry);
        let begun = tokio::time::Instant::now();
        let answer = timeout_at(due, sent).await;
        home.connection.watch.answered();
        answer.map_err(|_| {
            self.service.judge(seat.endpoint(), true);
            let millis = (due - begun).as_millis();
            ForwardError::ResponseTimeout { address: seat.address().to_string(), millis }
        })
    }
}
