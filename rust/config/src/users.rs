//! Users and the bcrypt hashes of their passwords, in the configuration or in a file as `htpasswd -B` writes it.
//!
//! Other hashes are refused: those that `htpasswd` writes without `-B` are guessed at billions a second. Nothing here
//! puts a hash or a password into a reason.

use std::{fs, path::Path};

use crate::plan::Secret;

/// More than a list of users has a reason to hold.
const MAX_BYTES: u64 = 16 << 20;
/// A password takes 2^cost rounds: beyond this one, seconds for each login.
const MAX_COST: u32 = 16;

/// A user and what proves the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name, without a colon.
    pub name: String,
    /// A bcrypt hash.
    pub hash: PasswordHash,
}

/// A bcrypt hash that can be verified in reasonable time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Secret,
    cost: u32,
}

impl PasswordHash {
    /// Takes `text`, where it is one.
    ///
    /// # Errors
    ///
    /// What it is instead, to follow "is".
    pub fn parse(text: &str) -> Result<PasswordHash, String> {
        const HOW: &str = "make one with `htpasswd -nB NAME`";
        let other = match text {
            _ if text.starts_with("$apr1$") || text.starts_with("$1$") => Some("an MD5 hash"),
            _ if text.starts_with("{SHA}") => Some("a SHA-1 hash"),
            _ if text.starts_with("$5$") || text.starts_with("$6$") => Some("a SHA-crypt hash"),
            _ if text.starts_with("$argon2") => Some("an Argon2 hash"),
            _ if text.starts_with("$2x$") => Some("a hash by a bcrypt with a flaw (`$2x$`)"),
            _ => None,
        };
        if let Some(other) = other {
            return Err(format!("{other}, and only bcrypt is taken: {HOW}"));
        }
        if !["$2a$", "$2b$", "$2y$"].iter().any(|known| text.starts_with(known)) {
            return Err(format!("no bcrypt hash (`$2y$...`), and plain text is not taken: {HOW}"));
        }
        let parts: bcrypt::HashParts =
            text.parse().map_err(|_| format!("a bcrypt hash that is broken: {HOW}"))?;
        match parts.get_cost() {
            cost @ 4..=MAX_COST => Ok(PasswordHash { text: Secret::new(text.to_owned()), cost }),
            cost => Err(format!("a bcrypt hash of cost {cost}, and only 4 to {MAX_COST} are taken: {HOW}")),
        }
    }

    /// The hash as it was written.
    pub fn reveal(&self) -> &str {
        self.text.reveal()
    }

    /// The binary logarithm of the rounds that a password takes.
    pub fn cost(&self) -> u32 {
        self.cost
    }
}

/// What is wrong in a list of users, and in which line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongLine {
    /// The line, from 1.
    pub line: usize,
    /// The reason.
    pub reason: String,
}

/// The users in the file at `path`.
///
/// # Errors
///
/// Why they are not there; each wrong line with the file and its number.
pub fn read(path: &Path) -> Result<Vec<User>, String> {
    let shown = path.display();
    let cannot = |why: std::io::Error| format!("the file `{shown}` cannot be read: {why}");
    let found = fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        return Err(format!("`{shown}` is no regular file"));
    }
    if found.len() > MAX_BYTES {
        return Err(format!("the file `{shown}` is larger than {MAX_BYTES} bytes"));
    }
    let bytes = fs::read(path).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("the file `{shown}` is no UTF-8 text"))?;
    let said = |wrong: &WrongLine| format!("{shown}:{}: {}", wrong.line, wrong.reason);
    parse(&text).map_err(|wrong| {
        let mut lines: Vec<String> = wrong.iter().take(20).map(said).collect();
        if wrong.len() > lines.len() {
            lines.push(format!("and {} more", wrong.len() - lines.len()));
        }
        lines.join("\n")
    })
}

/// The users in a text of lines `name:hash`; empty lines and those that begin with `#` say nothing.
///
/// # Errors
///
/// All lines that are wrong, at once.
pub fn parse(text: &str) -> Result<Vec<User>, Vec<WrongLine>> {
    let mut users: Vec<User> = Vec::new();
    let mut first_line = std::collections::HashMap::new();
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = match line.split_once(':') {
            None => Err("no `name:hash`".to_owned()),
            Some((name, _)) if !is_name(name) => {
                Err("the name of a user is not empty and holds no control character".to_owned())
            }
            Some((name, hash)) => PasswordHash::parse(hash)
                .map(|hash| User { name: name.to_owned(), hash })
                .map_err(|what| format!("what stands for the password of `{name}` is {what}")),
        };
        match read {
            Err(reason) => wrong.push(WrongLine { line: line_number, reason }),
            Ok(user) => match first_line.get(&user.name) {
                Some(first) => {
                    let reason = format!("`{}` stands in line {first} already", user.name);
                    wrong.push(WrongLine { line: line_number, reason });
                }
                None => {
                    first_line.insert(user.name.clone(), line_number);
                    users.push(user);
                }
            },
        }
    }
    if wrong.is_empty() { Ok(users) } else { Err(wrong) }
}

/// Whether a client can log in under that name (RFC 7617, 2).
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(':') && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// "secret", by `htpasswd -nbB -C 4`.
    const HASH: &str = "$2y$04$MCrSYeoKcyTBEYmMdRGgq.r4sJT.2VSNENLDQA9BMKi2yC6ivAzXK";

    #[test]
    fn lines_comments_and_line_ends_as_htpasswd_knows_them() {
        let text = format!("# staff\n\nalice:{HASH}\r\nbob müller:{HASH}\n");
        let users = parse(&text).expect("users");
        let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["alice", "bob müller"]);
        assert_eq!((users[0].hash.reveal(), users[0].hash.cost()), (HASH, 4));
        assert!(!format!("{users:?}").contains(HASH), "a hash is no text for a log");
    }

    #[test]
    fn all_wrong_lines_are_told_without_what_they_hold() {
        let text = format!(
            "a:$apr1$x$y\nb:{{SHA}}abc\nc:pl4intext\nd\n:{HASH}\ne:{HASH}\ne:{HASH}\nf:{}\ng:$2y$04$short\n",
            HASH.replace("$04$", "$31$")
        );
        let wrong = parse(&text).expect_err("all but one are wrong");
        let lines: Vec<usize> = wrong.iter().map(|wrong| wrong.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 7, 8, 9]);
        let said: String = wrong.iter().map(|wrong| wrong.reason.clone() + "\n").collect();
        for part in
            ["MD5", "SHA-1", "plain text", "no `name:hash`", "not empty", "line 6", "cost 31", "broken"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("pl4intext") && !said.contains("$apr1$x"), "{said}");
    }

    #[test]
    fn a_file_is_named_with_the_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("users");
        std::fs::write(&path, "\nalice:secret\n").expect("write");
        let said = read(&path).expect_err("plain text");
        assert!(said.starts_with(&format!("{}:2: ", path.display())), "{said}");
        assert!(!said.contains("secret") && read(directory.path()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_is_users_or_wrong_lines(text in "[a-c:$#2y\\n \\r\u{0}]{0,200}") {
            match parse(&text) {
                Ok(users) => prop_assert!(users.iter().all(|user| is_name(&user.name))),
                Err(wrong) => prop_assert!(wrong.iter().all(|w| w.line <= text.lines().count())),
            }
        }

        #[test]
        fn names_come_back_as_they_were_written(names in prop::collection::hash_set("[a-zé@. ]{0,8}[a-z]", 0..20)) {
            let text: String = names.iter().map(|name| format!("{name}:{HASH}\n")).collect();
            let users = parse(&text).expect("users");
            prop_assert_eq!(users.len(), names.len());
            prop_assert!(users.iter().all(|user| names.contains(&user.name)));
        }
    }
}
