//! How changes of files are noticed: they are looked at once a second.
//!
//! Notices of the kernel would come sooner, but not for files on a network's disk, and not where a mounted secret is
//! exchanged by a link to another directory. They come for whole directories too: a log that is written beside a
//! certificate would keep a processor busy, where a look costs a microsecond.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often a file is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl Stamp {
    /// The file's state now, at the end of all links; `None`: it cannot be looked at.
    pub(crate) fn of(path: &Path) -> Option<Stamp> {
        let found = fs::metadata(path).ok()?;
        Some(Stamp {
            file: (found.dev(), found.ino()),
            length: found.len(),
            modified: found.modified().ok(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}
