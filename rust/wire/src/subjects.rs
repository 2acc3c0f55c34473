//! The subjects that frames travel on. A group is part of the subject, because two queue groups on one subject
//! would both get every message. Names are checked here, so that a name from a configuration or from a frame
//! never becomes a wildcard or a second token.

use crate::limits::MAX_NAME;
use std::fmt::Write as _;

/// A name that may not stand in a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not usable in a NATS subject: {why}")]
pub struct SubjectError {
    what: &'static str,
    name: String,
    why: &'static str,
}

/// Whether `name` is one token of a subject: no dot, wildcard, space or control character.
pub fn check_token(what: &'static str, name: &str) -> Result<(), SubjectError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 256 bytes"
    } else if name.bytes().any(|b| b <= b' ' || b == 0x7f || matches!(b, b'.' | b'*' | b'>')) {
        "'.', '*', '>', spaces and control characters have a meaning there"
    } else if name.starts_with('$') {
        "'$' starts the server's own subjects"
    } else {
        return Ok(());
    };
    Err(SubjectError { what, name: name.chars().take(80).collect(), why })
}

/// The subjects of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSubjects {
    /// First calls of sessions: the workers listen here in their queue group.
    pub call: String,
    /// Workers announce themselves here, and say when they leave.
    pub workers: String,
    /// The name of the workers' NATS micro service.
    pub service: String,
    /// The start of a worker's own subject.
    own: String,
}

impl GroupSubjects {
    /// The subjects of `group` under `prefix`, which may have several tokens (`acme.nylon`).
    pub fn new(prefix: &str, group: &str) -> Result<GroupSubjects, SubjectError> {
        for token in prefix.split('.') {
            let named = |error| SubjectError { name: prefix.chars().take(80).collect(), ..error };
            check_token("the subject prefix", token).map_err(named)?;
        }
        check_token("the group", group)?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        Ok(GroupSubjects {
            call: format!("{prefix}.{group}.call"),
            workers: format!("{prefix}.{group}.workers"),
            service: format!("nylon-{}", group.chars().map(plain).collect::<String>()),
            own: format!("{prefix}.{group}.w."),
        })
    }

    /// A worker's own subject: later phases of its sessions, bodies it asked for, the end of sessions.
    pub fn worker(&self, worker: &str) -> Result<String, SubjectError> {
        check_token("the worker's id", worker)?;
        Ok(format!("{}{worker}", self.own))
    }

    /// Where all workers of the group answer with what they are (NATS micro).
    pub fn info(&self) -> String {
        format!("$SRV.INFO.{}", self.service)
    }
}

/// The last token of a reply subject: which slot of the gateway's table, which use of it, and which of the call's
/// messages is answered. The last one tells "nobody listens" of a call from that of a probe.
pub fn reply_token(out: &mut String, slot: u32, generation: u32, message: u32) {
    write!(out, "{slot:x}-{generation:x}-{message:x}").expect("writing to memory does not fail");
}

/// Reads what [`reply_token`] wrote.
pub fn parse_reply_token(token: &str) -> Option<(u32, u32, u32)> {
    let mut parts = token.splitn(3, '-').map(|part| u32::from_str_radix(part, 16).ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_the_protocol() {
        let subjects = GroupSubjects::new("nylon", "auth_workers").expect("good names");
        assert_eq!(subjects.call, "nylon.auth_workers.call");
        assert_eq!(subjects.workers, "nylon.auth_workers.workers");
        assert_eq!(subjects.worker("w1").expect("good id"), "nylon.auth_workers.w.w1");
        assert_eq!(subjects.info(), "$SRV.INFO.nylon-auth_workers");
    }

    #[test]
    fn a_name_never_becomes_a_wildcard_or_a_second_token() {
        for bad in ["", "a.b", "*", ">", "a b", "a\r\nPUB x 0", "$SYS", "a\u{7f}"] {
            assert!(GroupSubjects::new("nylon", bad).is_err(), "{bad:?}");
            let subjects = GroupSubjects::new("nylon", "g").expect("good names");
            assert!(subjects.worker(bad).is_err(), "{bad:?}");
        }
        assert!(GroupSubjects::new("acme.nylon", "g").is_ok());
        assert!(GroupSubjects::new("acme..nylon", "g").is_err());
    }

    #[test]
    fn reply_tokens_round_trip() {
        for (slot, generation, message) in [(0, 0, 0), (17, 4_000_000_000, 3), (u32::MAX, u32::MAX, u32::MAX)]
        {
            let mut token = String::new();
            reply_token(&mut token, slot, generation, message);
            assert_eq!(parse_reply_token(&token), Some((slot, generation, message)));
        }
        for bad in ["", "-", "1-1", "1-1-", "x-1-1", "1-1-100000000", "1-1-1-1"] {
            assert_eq!(parse_reply_token(bad), None);
        }
    }
}
