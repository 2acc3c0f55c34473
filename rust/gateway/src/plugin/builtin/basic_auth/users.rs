//! Users and the proof that a password is right.
//!
//! bcrypt is slow on purpose, and a browser sends the password with each request. So for a while a user's proven password
//! is known again, by a keyed hash of it whose key never leaves the process. There is one such for each user at most,
//! since only what bcrypt has proven gets there: nobody can fill this memory.

use nylon_config::users::{PasswordHash, User};
use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a proven password is known again.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// bcrypt looks at no more bytes of a password, so that a longer one would be proven by its beginning.
const MAX_PASSWORD: usize = 72;

/// Users as a configuration or a file lists them.
pub(super) struct Users {
    by_name: HashMap<String, Arc<Account>>,
    /// Stands for users that there are not, who shall take as long.
    nobody: PasswordHash,
    key: hmac::Key,
}

struct Account {
    hash: PasswordHash,
    proven: Mutex<Option<(hmac::Tag, Instant)>>,
}

/// A name and a password, and what it takes to tell whether they go together.
pub(super) struct Login {
    account: Option<Arc<Account>>,
    nobody: PasswordHash,
    key: hmac::Key,
    password: String,
}

impl Users {
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn new(users: Vec<User>) -> Result<Users, String> {
        // The slowest that there is: an unknown name must not be told by a quicker answer.
        let cost = users.iter().map(|user| user.hash.cost()).max().unwrap_or(bcrypt::DEFAULT_COST);
        let nobody = format!("$2b${cost:02}$......................{}", ".".repeat(31));
        let nobody = PasswordHash::parse(&nobody).map_err(|why| format!("the hash of nobody is {why}"))?;
        let random = SystemRandom::new();
        let key =
            hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(|_| "no random bytes".to_owned())?;
        let account =
            |user: User| (user.name, Arc::new(Account { hash: user.hash, proven: Mutex::default() }));
        Ok(Users { by_name: users.into_iter().map(account).collect(), nobody, key })
    }

    /// What is to be proven.
    pub(super) fn login(&self, name: &str, password: String) -> Login {
        let account = self.by_name.get(name).cloned();
        Login { account, nobody: self.nobody.clone(), key: self.key.clone(), password }
    }
}

impl Login {
    /// Whether it is known to be right. No is no answer: it has to be proven.
    pub(super) fn is_known(&self) -> bool {
        let Some(account) = &self.account else { return false };
        // What stands there is replaced whole.
        let proven = *account.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.is_some_and(|(tag, since)| {
            since.elapsed() < KNOWN_FOR
                && hmac::verify(&self.key, self.password.as_bytes(), tag.as_ref()).is_ok()
        })
    }

    /// Whether it is right. This takes a while, the same for a name that there is and one that there is not.
    pub(super) fn prove(&self) -> bool {
        let hash = self.account.as_ref().map_or(&self.nobody, |account| &account.hash);
        let fits = self.password.len() <= MAX_PASSWORD && !self.password.contains('\0');
        let tried = if fits { self.password.as_str() } else { "" };
        let matches = bcrypt::verify(tried, hash.reveal()).unwrap_or(false);
        let Some(account) = self.account.as_ref().filter(|_| matches && fits) else { return false };
        let tag = hmac::sign(&self.key, self.password.as_bytes());
        *account.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some((tag, Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(password: &str) -> Users {
        let hash = bcrypt::hash(password, 4).expect("a hash");
        let hash = PasswordHash::parse(&hash).expect("bcrypt");
        Users::new(vec![User { name: "alice".into(), hash }]).expect("random bytes")
    }

    #[test]
    fn a_password_is_proven_once_and_then_known() {
        let users = users("secret");
        let login = |name: &str, password: &str| users.login(name, password.to_owned());
        for (name, password) in [("alice", "Secret"), ("alice", ""), ("bob", "secret"), ("", "")] {
            assert!(!login(name, password).prove() && !login(name, password).is_known(), "{name}:{password}");
        }
        assert!(!login("alice", "secret").is_known());
        assert!(login("alice", "secret").prove());
        assert!(login("alice", "secret").is_known());
        assert!(!login("alice", "Secret").is_known() && !login("bob", "secret").is_known());
        assert!(!login("alice", "wrong").prove());
        assert!(login("alice", "secret").is_known(), "somebody else's mistake costs nothing");
    }

    #[test]
    fn what_bcrypt_would_not_look_at_proves_nothing() {
        let long = "x".repeat(72);
        let users = users(&long);
        assert!(users.login("alice", long.clone()).prove());
        for password in [format!("{long}y"), format!("{long}\0"), format!("{}\0", &long[1..])] {
            assert!(!users.login("alice", password).prove());
        }
        let empty = super::tests::users("");
        assert!(!empty.login("alice", "\0".to_owned()).prove(), "what does not fit is not tried as nothing");
    }
}
