//! `BasicAuth`: lets requests through that come with a user's name and password (RFC 7617).
//!
//! Passwords are proven beside the data plane, a bounded number at a time: bcrypt would hold a whole thread up for longer
//! than a thousand requests. Who finds no place is told to come back (503) and never let through.

/// Users and proofs.
mod users;

use super::background::{Heavy, NotRun};
use super::ending::{conclude, fail, refuse};
use super::heads_only;
use super::kept::Kept;
use super::state::State;
use super::watched::Watched;
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use crate::respond::ErrorAnswer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use nylon_config::plan::{BasicAuth, BasicUsers};
use nylon_config::users::{self as lists, User};
use nylon_core::{Exchange, FailureKind, Finished, Op, Outcome, PhaseMask};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use users::{Login, Users};

/// Users that are shared and outlive a reload.
#[derive(Default)]
pub(super) struct KeptUsers {
    listed: Kept<Vec<User>, Users>,
    files: Kept<PathBuf, Watched<Users>>,
}

enum Source {
    Listed(Arc<Users>),
    File(Arc<Watched<Users>>),
}

/// The entry of one middleware.
pub(super) struct BasicEntry {
    phases: PhaseMask,
    rules: BasicAuth,
    source: Source,
    heavy: Heavy,
}

impl BasicEntry {
    /// # Errors
    /// Why the users cannot be read.
    pub(super) fn new(rules: &BasicAuth, phases: PhaseMask, state: &State) -> Result<BasicEntry, String> {
        let (kept, background) = (&state.users, state.background()?);
        let source = match &rules.users {
            BasicUsers::Listed(users) => {
                let make = |users: &Vec<User>| Users::new(users.clone()).map(Arc::new);
                Source::Listed(kept.listed.get(users.clone(), make)?)
            }
            BasicUsers::File(path) => {
                let watch = |path: &PathBuf| Watched::start(background, path.clone(), read);
                Source::File(kept.files.get(path.clone(), watch)?)
            }
        };
        Ok(BasicEntry { phases, rules: rules.clone(), source, heavy: background.heavy().clone() })
    }

    fn login(&self, name: &str, password: String) -> Login {
        match &self.source {
            Source::Listed(users) => users.login(name, password),
            Source::File(file) => file.get().login(name, password),
        }
    }

    fn judge(&self, exchange: Box<Exchange>, name: String, right: bool) -> Finished {
        if !right {
            return self.refuse(exchange);
        }
        // What a client wrote can still be no header: a line break, say.
        let Ok(value) = Op::header_value(Bytes::from(name)) else { return self.refuse(exchange) };
        let mut ops = Vec::with_capacity(2);
        if !self.rules.forward_authorization {
            ops.push(Op::RemoveRequestHeader(header::AUTHORIZATION));
        }
        ops.push(Op::SetRequestHeader(self.rules.user_header.clone(), value));
        conclude(exchange, &ops, Outcome::Next)
    }

    fn refuse(&self, exchange: Box<Exchange>) -> Finished {
        let answer = ErrorAnswer { status: StatusCode::UNAUTHORIZED, text: "unauthorized" };
        refuse(exchange, answer, [(header::WWW_AUTHENTICATE, self.rules.challenge.clone())])
    }

    async fn later(
        &self,
        exchange: Box<Exchange>,
        name: String,
        login: Login,
        deadline: Instant,
    ) -> Finished {
        let login = Arc::new(login);
        let (known, proven) = (login.clone(), login);
        // Others may come with the same password meanwhile; it is proven once for all.
        let proof = self.heavy.run(move || known.is_known().then_some(true), move || proven.prove());
        match tokio::time::timeout_at(deadline.into(), proof).await {
            Ok(Ok(right)) => self.judge(exchange, name, right),
            Ok(Err(NotRun::Full)) => {
                fail(exchange, FailureKind::Overloaded, "too many passwords wait to be verified")
            }
            Ok(Err(NotRun::Ended)) => {
                fail(exchange, FailureKind::Unavailable, "the password could not be verified")
            }
            Err(_) => fail(exchange, FailureKind::TimedOut, "the password was not verified in time"),
        }
    }
}

fn read(path: &Path) -> Result<Users, String> {
    Users::new(lists::read(path)?)
}

impl PluginEntry for BasicEntry {
    fn traits(&self) -> EntryTraits {
        heads_only(self.phases)
    }

    fn keeps_sessions(&self) -> bool {
        false
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let PhaseCall { exchange, deadline, .. } = call;
        let Some((name, password)) = credentials(&exchange.request.headers) else {
            return Pending::Ready(self.refuse(exchange));
        };
        let login = self.login(&name, password);
        if login.is_known() {
            return Pending::Ready(self.judge(exchange, name, true));
        }
        Pending::Later(Box::pin(self.later(exchange, name, login, deadline)))
    }
}

/// Name and password, where the request brings exactly one such pair.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[&str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().expect("a value"));
        }
        credentials(&headers)
    }

    #[test]
    fn only_one_whole_pair_is_taken() {
        assert_eq!(of(&["Basic YTpiOmM="]), Some(("a".into(), "b:c".into())));
        assert_eq!(of(&["bAsIc  YTpiOmM= "]), Some(("a".into(), "b:c".into())));
        for values in [
            &[][..],
            &["Basic"],
            &["Basic "],
            &["Basic YWI="],
            &["Basic YTpi OmM="],
            &["Basic !"],
            &["Bearer YTpiOmM="],
            &["Basic //86/w=="],
            &["Basic YTpiOmM=", "Basic YTpiOmM="],
        ] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pair_comes_back_as_it_was_sent(name in "[^:\\x00-\\x1f]{0,20}", password in ".{0,40}") {
            let sent = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            prop_assert_eq!(of(&[&sent]), Some((name, password)));
        }
    }
}
