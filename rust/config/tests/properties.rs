//! What holds for every text, and for every misspelt key.

use std::sync::LazyLock;

use broker_files::BrokerFiles;
use nylon_config::{ConfigErrors, Diagnostic, Loaded};
use proptest::prelude::*;

/// The files that `auth` and `tls` name.
mod broker_files;

/// Everything that is available, once.
const VALID: &str = include_str!("data/available.yaml");

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    static DIRECTORY: LazyLock<BrokerFiles> = LazyLock::new(BrokerFiles::new);
    nylon_config::parse_str("nylon.yaml", text, DIRECTORY.path(), &|_| None)
}

/// Keys that the configuration chooses itself; they cannot be misspelt. `https` without its last letter is another key.
const CHOSEN: [&str; 4] = ["safe", "anything", "deep", "https"];

/// Every key of the text, with its place as a byte range.
fn keys(text: &str) -> Vec<(usize, &str)> {
    let mut keys = Vec::new();
    for (at, _) in text.match_indices(':') {
        let start =
            text[..at].rfind(|c: char| !(c.is_ascii_lowercase() || c == '_')).map_or(0, |start| start + 1);
        let ends = text[at + 1..].starts_with([' ', '\n']);
        let line = text[..at].rfind('\n').map_or(0, |line| line + 1);
        let comment = text[line..at].contains('#');
        if start < at && ends && !comment && !CHOSEN.contains(&&text[start..at]) {
            keys.push((start, &text[start..at]));
        }
    }
    keys
}

fn places_lie_inside(text: &str, found: &[Diagnostic]) -> Result<(), TestCaseError> {
    for diagnostic in found {
        let location = &diagnostic.location;
        prop_assert!(location.line >= 1 && location.column >= 1 && location.width >= 1);
        let line = text.split('\n').nth(location.line - 1).map(|line| line.trim_end_matches('\r'));
        // As it is written, but for stars where a password stood.
        let shown = line.is_some_and(|line| {
            let same = |(written, shown)| written == shown || shown == '*';
            line.chars().count() == location.source.chars().count()
                && line.chars().zip(location.source.chars()).all(same)
        });
        prop_assert!(shown, "line {} of {text:?} as {:?}", location.line, location.source);
        prop_assert!(location.column <= location.source.chars().count() + 1, "{diagnostic}");
        prop_assert!(!diagnostic.reason.is_empty());
        let _ = diagnostic.to_string();
    }
    Ok(())
}

fn outcome_is_sound(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(loaded) => places_lie_inside(text, &loaded.warnings),
        Err(errors) => {
            prop_assert!(!errors.errors.is_empty(), "refused without a reason: {text:?}");
            places_lie_inside(text, &errors.errors)?;
            places_lie_inside(text, &errors.warnings)
        }
    }
}

#[test]
fn the_configuration_that_is_changed_is_valid_and_says_much() {
    let loaded = parse(VALID).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    assert!(keys(VALID).len() > 100, "{}", keys(VALID).len());
}

/// One letter is left out, doubled, swapped with the next, or another: in every key, at every letter.
#[test]
fn a_misspelt_key_gives_one_error_that_suggests_the_right_one() {
    let mut tried = 0;
    for (start, key) in keys(VALID) {
        for at in 0..key.len() {
            let mut out = key.to_owned();
            out.remove(at);
            let mut double = key.to_owned();
            double.insert(at, key.as_bytes()[at] as char);
            let mut swap = key.as_bytes().to_vec();
            if at + 1 < swap.len() {
                swap.swap(at, at + 1);
            }
            let swap = String::from_utf8(swap).expect("keys are ASCII");
            let other = format!("{}q{}", &key[..at], &key[at + 1..]);
            for wrong in [out, double, swap, other] {
                // Two letters of which one is wrong could be anything; `method` could be `methods` in two ways.
                if wrong == key || wrong.len() < 2 || key.len() < 3 {
                    continue;
                }
                let text = format!("{}{wrong}{}", &VALID[..start], &VALID[start + key.len()..]);
                let errors = parse(&text).expect_err(&wrong).errors;
                assert_eq!(
                    errors.len(),
                    1,
                    "{key} as {wrong}: {}",
                    ConfigErrors { errors, warnings: vec![] }
                );
                assert_eq!(errors[0].text(), wrong);
                let help = format!("did you mean `{key}`?");
                assert_eq!(errors[0].suggestion.as_deref(), Some(help.as_str()), "{}", errors[0]);
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_every_place_lies_inside_it(text in any::<String>()) {
        outcome_is_sound(&text)?;
    }

    #[test]
    fn no_text_made_of_yaml_panics(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "http", "routes", "plugins", ": ", ":\n", "\n", "\r\n", "- ", "  ", "{", "}", "[", "]", ", ", "'", "\"",
            "&x ", "*x", "<<: ", "|\n", ">\n", "!t ", "# c\n", "---\n", "...\n", "? ", "é", "\t", "${A}", "${f(x)}", "1",
            "0x1g", "-.e", "null", "name", "per_phase", "\u{feff}", "%YAML 1.2\n", "~",
        ]), 0..40),
    ) {
        outcome_is_sound(&pieces.concat())?;
    }

    #[test]
    fn no_change_of_a_valid_text_panics(at in 0..VALID.len(), length in 0..40_usize, piece in "[ -~\n\t]{0,6}|.{0,3}") {
        let end = (at + length).min(VALID.len());
        if VALID.is_char_boundary(at) && VALID.is_char_boundary(end) {
            outcome_is_sound(&format!("{}{piece}{}", &VALID[..at], &VALID[end..]))?;
        }
    }
}
