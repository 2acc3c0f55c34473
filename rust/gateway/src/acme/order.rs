//! One order: from the wish for a certificate to its chain and key (RFC 8555, 7.4).

use super::Wanted;
use super::account::Ours;
use super::challenges::{HttpAnswers, Shown};
use super::client::Client;
use super::failure::{Failure, is_unknown_account, said};
use crate::tls::CertStore;
use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use nylon_config::plan::Challenge;
use rustls::crypto::CryptoProvider;
use std::sync::Arc;
use std::time::Duration;

/// A whole order.
const DEADLINE: Duration = Duration::from_secs(300);
/// How an order that the authority works on is looked at.
const LOOKING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// What an order needs of the gateway.
pub(super) struct Means {
    pub(super) answers: Arc<HttpAnswers>,
    pub(super) certificates: Arc<CertStore>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// What an order came to, as PEM.
pub(super) struct Issued {
    pub(super) key: String,
    pub(super) chain: String,
}

/// Orders what is `wanted`, within a deadline.
pub(super) async fn order(wanted: &Wanted, means: &Means) -> Result<Issued, Failure> {
    let client = Client::new(&wanted.acme.authority, &means.provider).map_err(Failure::broken)?;
    let pauses = client.pauses();
    let issued = tokio::time::timeout(DEADLINE, obtain(wanted, means, &client)).await;
    let late = || Failure::broken(format!("the authority was not done within {} s", DEADLINE.as_secs()));
    issued.unwrap_or_else(|_| Err(late())).map_err(|failure| failure.not_before(pauses.until()))
}

async fn obtain(wanted: &Wanted, means: &Means, client: &Client) -> Result<Issued, Failure> {
    let identifiers: Vec<Identifier> = wanted.domains.iter().cloned().map(Identifier::Dns).collect();
    let new = NewOrder::new(&identifiers);
    let ours = Ours::open(wanted, client).await?;
    let mut order = match ours.account.new_order(&new).await {
        Err(error) if is_unknown_account(&error) => {
            ours.forget().await?;
            let account: Account = Ours::open(wanted, client).await?.account;
            account.new_order(&new).await
        }
        other => other,
    }
    .map_err(|error| Failure::of("take an order", &error))?;
    prove(&mut order, wanted, means).await?;
    let key = order.finalize().await.map_err(|error| Failure::of("issue the certificate", &error))?;
    let chain = order
        .poll_certificate(&LOOKING)
        .await
        .map_err(|error| Failure::of("hand over the certificate", &error))?;
    Ok(Issued { key, chain })
}

/// Shows for each domain what its authorization asks for, until the authority is satisfied or has given up.
async fn prove(order: &mut Order, wanted: &Wanted, means: &Means) -> Result<(), Failure> {
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization =
            authorization.map_err(|error| Failure::of("say what it wants to see", &error))?;
        let domain = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Pending => {
                shown.push(show(&mut authorization, &domain, wanted, means).await?)
            }
            AuthorizationStatus::Valid => {} // shown for an earlier order
            status => return Err(Failure::refused(format!("the authorization of {domain} is {status:?}"))),
        }
    }
    match order.poll_ready(&LOOKING).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) => Err(unproven(order, wanted, None).await),
        Err(error @ instant_acme::Error::Api(_)) => {
            let other = Failure::of("look at the proof", &error);
            Err(unproven(order, wanted, Some(other)).await)
        }
        Err(error) => Err(Failure::of("look at the proof", &error)),
    }
}

async fn show<'a>(
    authorization: &'a mut AuthorizationHandle<'a>,
    domain: &str,
    wanted: &Wanted,
    means: &Means,
) -> Result<Shown, Failure> {
    let kind = match wanted.acme.challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let offered: Vec<String> =
        authorization.challenges.iter().map(|offered| format!("{:?}", offered.r#type)).collect();
    let Some(mut challenge) = authorization.challenge(kind) else {
        return Err(Failure::refused(format!(
            "for {domain} the authority does not take {}, but only {}",
            wanted.acme.challenge.name(),
            offered.join(", ")
        )));
    };
    let proof = challenge.key_authorization();
    let shown = match wanted.acme.challenge {
        Challenge::Http01 => Shown::answer(&means.answers, &challenge.token, &proof),
        Challenge::TlsAlpn01 => Shown::certificate(&means.certificates, domain, &proof, &means.provider)?,
    };
    challenge.set_ready().await.map_err(|error| Failure::of("look at the proof", &error))?;
    Ok(shown)
}

/// Why the authority is not satisfied: each authorization knows, the order only that one of them is.
async fn unproven(order: &mut Order, wanted: &Wanted, known: Option<Failure>) -> Failure {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()).map(said);
        if let Some(problem) = problem {
            reasons.push(format!("{}: {problem}", authorization.identifier()));
        }
    }
    match (reasons.is_empty(), known) {
        (true, Some(known)) => known,
        (true, None) => {
            Failure::refused("the authority is not satisfied with the proof, and does not say why")
        }
        (false, _) => Failure::refused(format!(
            "the authority did not see the proof ({}) for {}",
            wanted.acme.challenge.name(),
            reasons.join("; ")
        )),
    }
}
