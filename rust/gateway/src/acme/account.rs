//! The account at a certificate authority: the one that is kept, or a new one.

use super::Wanted;
use super::client::Client;
use super::failure::Failure;
use super::storage::{self, Kept, Lock};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use nylon_config::plan::ExternalAccount;
use std::time::Duration;

/// How often it is looked whether somebody else is done with making the account.
const LOOK: Duration = Duration::from_millis(100);

/// An account, and where it is kept.
pub(super) struct Ours {
    pub(super) account: Account,
    kept: Kept,
}

impl Ours {
    /// The account that `wanted` is obtained with. Where none is kept, one is made.
    ///
    /// Certificates that want the same account at once wait for whoever makes it; so do other processes. The order has
    /// a deadline.
    pub(super) async fn open(wanted: &Wanted, client: &Client) -> Result<Ours, Failure> {
        let kept = storage::account(wanted);
        let account = match read(&kept)? {
            Some(credentials) => open(credentials, client).await?,
            None => {
                let lock = locked(&kept).await?;
                match read(&kept)? {
                    Some(credentials) => open(credentials, client).await?,
                    None => make(&kept, &lock, wanted, client).await?,
                }
            }
        };
        Ok(Ours { account, kept })
    }

    /// Forgets an account that the authority does not know (any more).
    pub(super) async fn forget(self) -> Result<(), Failure> {
        let lock = locked(&self.kept).await?;
        tracing::warn!(
            "the authority does not know the account in `{}`: a new one is made",
            self.kept.path().display()
        );
        Ok(self.kept.remove(&lock)?)
    }
}

async fn locked(kept: &Kept) -> Result<Lock, Failure> {
    loop {
        match kept.try_lock()? {
            Some(lock) => return Ok(lock),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

fn read(kept: &Kept) -> Result<Option<AccountCredentials>, Failure> {
    let Some(bytes) = kept.read()? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(error) => {
            let path = kept.path();
            tracing::warn!("the account in `{}` cannot be read and is made anew: {error}", path.display());
            Ok(None)
        }
    }
}

async fn open(credentials: AccountCredentials, client: &Client) -> Result<Account, Failure> {
    Account::builder_with_http(Box::new(client.clone()))
        .from_credentials(credentials)
        .await
        .map_err(|error| Failure::of("open the account", &error))
}

async fn make(kept: &Kept, lock: &Lock, wanted: &Wanted, client: &Client) -> Result<Account, Failure> {
    let contact = wanted.acme.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = wanted.acme.external_account.as_ref().map(external_key).transpose()?;
    let url = wanted.acme.authority.directory_url.clone();
    let (account, credentials) = Account::builder_with_http(Box::new(client.clone()))
        .create(&new, url, external.as_ref())
        .await
        .map_err(|error| Failure::of("make an account", &error))?;
    let text = serde_json::to_vec(&credentials)
        .map_err(|error| Failure::broken(format!("the account cannot be written: {error}")))?;
    kept.write(&text, lock)?;
    tracing::info!(directory = %wanted.acme.authority.directory_url, account = %account.id(), "an ACME account was made");
    Ok(account)
}

fn external_key(external: &ExternalAccount) -> Result<ExternalAccountKey, Failure> {
    let key = BASE64_URL_SAFE_NO_PAD
        .decode(external.hmac_key.reveal().trim_end_matches('='))
        .map_err(|_| Failure::broken("`eab_hmac_key` is no base64url"))?;
    Ok(ExternalAccountKey::new(external.key_id.clone(), &key))
}
