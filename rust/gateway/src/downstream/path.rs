//! One spelling per path.
//!
//! A route that guards `/admin` must also see `/%61dmin`, `//admin` and `/x/../admin`, since the service behind may
//! read them as `/admin`. So a path is brought into one form (RFC 3986, 6.2.2) before anything looks at it, and that
//! form is both routed and forwarded: unreserved characters are decoded, hex digits are upper case, dot segments
//! and empty segments are gone. `%2F` stays what it is, a slash that separates nothing.

use bytes::Bytes;
use nylon_core::TargetPart;

/// The path in its one spelling; none if it is not a valid path (RFC 3986, 3.3), or holds an encoded NUL.
pub(super) fn normalise_path(path: &str) -> Option<TargetPart> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    let plain = !bytes.contains(&b'%')
        && !bytes.windows(2).any(|pair| pair[0] == b'/' && matches!(pair[1], b'/' | b'.'));
    if plain {
        return TargetPart::path(Bytes::copy_from_slice(bytes));
    }
    let decoded = decode_unreserved(bytes)?;
    TargetPart::path(remove_segments(&decoded).into())
}

fn decode_unreserved(path: &[u8]) -> Option<Vec<u8>> {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else { return None };
        rest = tail;
        match hex(*high)? << 4 | hex(*low)? {
            0 => return None,
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(byte),
            _ => decoded.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
        }
    }
    Some(decoded)
}

fn remove_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut directory = true;
    for segment in path.split(|byte| *byte == b'/') {
        directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in &kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if directory {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::normalise_path;
    use proptest::prelude::*;

    fn of(path: &str) -> Option<String> {
        normalise_path(path).map(|part| part.as_str().to_owned())
    }

    #[test]
    fn spellings_of_one_path_become_one() {
        for path in
            ["/admin", "/%61dmin", "//admin", "/./admin", "/x/../admin", "/x/%2e%2E/admin", "/../../admin"]
        {
            assert_eq!(of(path).as_deref(), Some("/admin"), "{path}");
        }
        assert_eq!(of("/a/b/..").as_deref(), Some("/a/"));
        assert_eq!(of("/a/.").as_deref(), Some("/a/"));
        assert_eq!(of("/a//").as_deref(), Some("/a/"));
        assert_eq!(of("/a%2fb%3f").as_deref(), Some("/a%2Fb%3F"));
        assert_eq!(of("/.well-known/x").as_deref(), Some("/.well-known/x"));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "a", "*", "/%", "/%4", "/%zz", "/%00", "/a b", "/a\\b", "/ü", "/a#b"] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_stable_and_has_no_dot_segments(path in "/([a-c.%/]|%2[eEfF]|%4[1-9]){0,24}") {
            if let Some(once) = of(&path) {
                prop_assert_eq!(of(&once), Some(once.clone()));
                prop_assert!(once.starts_with('/') && !once.contains("//"));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
