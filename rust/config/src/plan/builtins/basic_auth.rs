//! Users who log in with name and password.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};

use crate::users::User;

/// Who may log in, and what the service is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// The users.
    pub users: BasicUsers,
    /// The whole challenge (`WWW-Authenticate`).
    pub challenge: HeaderValue,
    /// The request header that tells the service who has logged in.
    pub user_header: HeaderName,
    /// Whether the service gets the `Authorization` header.
    pub forward_authorization: bool,
}

/// Where users are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BasicUsers {
    /// In the configuration.
    Listed(Vec<User>),
    /// In a file that [`crate::users::read`] reads.
    File(PathBuf),
}
