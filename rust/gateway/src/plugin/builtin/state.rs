//! What built-ins have beside their settings, for all plans that a server runs one after the other.

use super::background::Background;
use super::basic_auth::KeptUsers;
use super::jwt_auth::KeptKeys;
use super::rate_limit::KeptLimits;
use std::sync::OnceLock;

/// What the built-ins of a server share. It has to live for as long as the server does.
#[derive(Default)]
pub(crate) struct State {
    background: OnceLock<Background>,
    pub(super) users: KeptUsers,
    pub(super) keys: KeptKeys,
    pub(super) limits: KeptLimits,
}

impl State {
    /// The thread beside the data plane; it is started where the first built-in needs it.
    pub(super) fn background(&self) -> Result<&Background, String> {
        if let Some(running) = self.background.get() {
            return Ok(running);
        }
        let started =
            Background::start().map_err(|why| format!("cannot start the built-ins' thread: {why}"))?;
        Ok(self.background.get_or_init(|| started))
    }
}
