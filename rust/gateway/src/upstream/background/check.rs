//! Endpoints are asked whether they are well, each on a connection of its own (over HTTP/2 one that stays), the way
//! requests go.

use super::super::balance::{Endpoint, HttpService, clock};
use super::super::body::{SendBody, Upload};
use super::super::connect::connect;
use super::super::http2;
use super::super::pool::Pool;
use http::{HeaderValue, Request, header};
use nylon_config::plan::{EndpointAddress, HealthCheck, Protocol};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Who asks.
const AGENT: HeaderValue = HeaderValue::from_static("nylon-health-check");
/// How often it is looked for endpoints that are new.
const LOOK: Duration = Duration::from_secs(1);

/// Checks the endpoints of one service, whichever they are.
pub(super) async fn watch(service: Arc<HttpService>, check: HealthCheck, pool: Rc<Pool>) {
    let mut checks = JoinSet::new();
    loop {
        let mut pause = LOOK;
        for endpoint in service.endpoints() {
            if endpoint.next_check() <= clock::now() {
                // From its begin, so that a slow answer does not make checks rarer; one at a time all the same.
                let next = jittered(check.interval.max(check.timeout));
                endpoint.check_at(clock::now() + clock::millis(next));
                let (service, check, pool) = (service.clone(), check.clone(), pool.clone());
                checks.spawn_local(async move {
                    let found = ask(&endpoint, &check, &pool).await;
                    service.checked(&endpoint, found);
                });
            }
        }
        for endpoint in service.endpoints() {
            let until = endpoint.next_check().saturating_sub(clock::now());
            pause = pause.min(Duration::from_millis(until.max(1)));
        }
        while checks.try_join_next().is_some() {}
        tokio::time::sleep(pause).await;
    }
}

/// A tenth more or less, so that many gateways do not ask all at once.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.9 + 0.2 * fastrand::f64())
}

async fn ask(endpoint: &Endpoint, check: &HealthCheck, pool: &Rc<Pool>) -> Result<(), String> {
    let answer = async {
        let host = match endpoint.address.endpoint() {
            EndpointAddress::Unix(_) => "localhost".to_owned(),
            tcp @ EndpointAddress::Tcp { .. } => tcp.to_string(),
        };
        if endpoint.address.protocol() == Protocol::Http2 {
            let asked = http2::ask(pool, &endpoint.address, &host, check.path.clone(), AGENT).await;
            return asked.map_err(|error| error.to_string());
        }
        let mut connection = connect(pool, &endpoint.address).await.map_err(|error| error.to_string())?;
        let mut request = Request::new(SendBody::Empty);
        *request.uri_mut() = check.path.clone().into();
        let host = HeaderValue::try_from(host).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::USER_AGENT, AGENT);
        connection.watch.send(Upload::Sent);
        let answer = connection.sender.try_send_request(request).await;
        connection.watch.answered();
        Ok(answer.map_err(|error| error.into_error().to_string())?.status())
    };
    match timeout(check.timeout, answer).await {
        Ok(Ok(status)) if status.is_success() || status.is_redirection() => Ok(()),
        Ok(Ok(status)) => Err(format!("it answered {status}")),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer within {:?}", check.timeout)),
    }
}
