//! What somebody probably meant when a name is not known.

/// Reason and suggestion for a `name` that is not among `known`. `what` says what it should name.
pub(crate) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> (String, Option<String>) {
    let known: Vec<&str> = known.into_iter().collect();
    let reason = format!("unknown {what}: `{name}`");
    (reason, suggest(name, &known))
}

/// The nearest of `known`, or all of them where they are few and none is near.
pub(crate) fn suggest(name: &str, known: &[&str]) -> Option<String> {
    if let Some(near) = nearest(name, known) {
        return Some(format!("did you mean `{near}`?"));
    }
    match known {
        [] => Some("none is defined".to_owned()),
        known if known.len() <= 16 => {
            let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            Some(format!("known: {}", list.join(", ")))
        }
        _ => None,
    }
}

/// The one of `known` that is likely meant by `name`: at most a third of its letters differ (a swap of two
/// neighbours counts once), or they are the same but for case and separators.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' ', '.'], "_");
    let name = plain(name);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name, &plain(known)), *known))
        .filter(|(distance, known)| *distance <= (known.chars().count().max(name.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(nearest("midleware", &["methods", "middleware", "path"]), Some("middleware"));
        assert_eq!(
            nearest("RequestHeaderModifer", &["RequestHeaderModifier"]),
            Some("RequestHeaderModifier")
        );
        assert_eq!(nearest("on-error", &["on_error", "timeout_ms"]), Some("on_error"));
        assert_eq!(nearest("ahth", &["auth", "path"]), Some("auth"));
    }

    #[test]
    fn a_name_like_none_is_not_guessed() {
        assert_eq!(nearest("zebra", &["methods", "middleware", "path"]), None);
        assert_eq!(suggest("zebra", &["a", "b"]).as_deref(), Some("known: `a`, `b`"));
        assert_eq!(suggest("zebra", &[]).as_deref(), Some("none is defined"));
    }
}
