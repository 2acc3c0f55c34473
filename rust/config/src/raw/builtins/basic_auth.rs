//! The payload of `BasicAuth`, as written.

use crate::{
    kinds::{EnvText, Flag, Text},
    read::section,
};

section! {
    /// Users who log in with name and password.
    BasicAuth "the payload of `BasicAuth`", {
        /// The users.
        optional users("users"): Vec<BasicUser>;
        /// A file of users instead, as `htpasswd -B` writes it. It is read again when it changes.
        optional file("file"): EnvText;
        /// What the client is told that it logs in to.
        optional realm("realm"): Text = "restricted";
        /// The request header that tells the service who has logged in.
        optional user_header("user_header"): Text = "x-authenticated-user";
        /// Whether the service gets the `Authorization` header with the password. False by default.
        optional forward_authorization("forward_authorization"): Flag;
    }
}

section! {
    /// A user of `BasicAuth`.
    BasicUser "a user of `BasicAuth`", {
        /// The name.
        required name("name"): Text;
        /// The bcrypt hash of the password.
        required password("password"): EnvText;
    }
}
