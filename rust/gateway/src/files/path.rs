//! From a request's path to names below a root.

use percent_encoding::percent_decode_str;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The name of a file or directory.
pub(super) type Name = OsString;

/// What is hidden by its name and served all the same (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// The names on the way to what a path means. `None` is for one that can mean no file: a name that leads up, that holds a
/// slash or a NUL once decoded, or that is hidden where hidden files are not served.
pub(super) fn names(path: &str, hidden: bool) -> Option<Vec<Name>> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.map(|segment| name(percent_decode_str(segment).collect(), hidden)).collect()
}

fn name(bytes: Vec<u8>, hidden: bool) -> Option<Name> {
    let is_plain = !matches!(&bytes[..], b"." | b"..") && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
    let is_seen = hidden || !bytes.starts_with(b".") || bytes == WELL_KNOWN;
    (is_plain && is_seen).then(|| OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, PathBuf};

    #[test]
    fn names_are_decoded_one_by_one() {
        let names = |path| names(path, false);
        assert_eq!(names("/a%20b/c.html"), Some(vec!["a b".into(), "c.html".into()]));
        assert_eq!(names("/"), Some(vec![]));
        assert_eq!(names("//a//"), Some(vec!["a".into()]));
        assert_eq!(names("/.well-known/x"), Some(vec![".well-known".into(), "x".into()]));
        for path in ["/../x", "/%2e%2e/x", "/a%2fb", "/..%2fx", "/a%00", "/.git/config", "/.", "/%2Eenv"] {
            assert_eq!(names(path), None, "{path}");
        }
        assert_eq!(super::names("/.env", true), Some(vec![".env".into()]));
    }

    proptest! {
        #[test]
        fn no_path_leads_up(path in "(/|%2[eEfF]|%00|\\.|[a-c]|%[0-9a-f]{2}|%){0,24}", hidden: bool) {
            if let Some(names) = names(&path, hidden) {
                let below: PathBuf = names.iter().collect();
                prop_assert!(below.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(below.components().count(), names.len());
            }
        }
    }
}
