//! Path patterns and rewrites.

use std::collections::HashMap;

use percent_encoding::NON_ALPHANUMERIC;

use crate::{
    kinds::Text,
    plan::{Rewrite, RewritePart},
    report::Report,
    source::Place,
};

/// The patterns of one route: which rule has them, for which methods.
#[derive(Default)]
pub(super) struct Patterns {
    router: matchit::Router<()>,
    taken: HashMap<String, Vec<Taken>>,
}

struct Taken {
    methods: Vec<http::Method>,
    place: Place,
}

impl Patterns {
    /// Takes one more pattern; a bad one, and one that conflicts with an earlier, is reported.
    pub(super) fn add(
        &mut self,
        text: &Text,
        methods: &[http::Method],
        report: &mut Report<'_>,
    ) -> Option<String> {
        let pattern = text.value.as_str();
        check_text(text, report)?;
        let known = self.taken.get(pattern).map_or(&[][..], Vec::as_slice);
        for taken in known {
            if let Some(method) = overlap(&taken.methods, methods) {
                let first = report.at(taken.place);
                report.error(text.place, format!("`{pattern}` leads somewhere already{method}, see {first}"));
                return None;
            }
        }
        // Alone first: what is wrong with the pattern itself matters more than what it conflicts with.
        let alone = matchit::Router::new().insert(pattern, ());
        if known.is_empty()
            && let Err(error) = alone.and_then(|()| self.router.insert(pattern, ()))
        {
            self.explain(text, &error, report);
            return None;
        }
        let taken = Taken { methods: methods.to_vec(), place: text.place };
        self.taken.entry(pattern.to_owned()).or_default().push(taken);
        Some(pattern.to_owned())
    }

    fn explain(&self, text: &Text, error: &matchit::InsertError, report: &mut Report<'_>) {
        let pattern = &text.value;
        match error {
            matchit::InsertError::Conflict { with } => {
                let first = self.taken.get(with).and_then(|taken| taken.first());
                let first =
                    first.map(|taken| format!(", see {}", report.at(taken.place))).unwrap_or_default();
                report.error_help(
                    text.place,
                    format!("`{pattern}` cannot be told apart from `{with}`{first}"),
                    "write one pattern in both and give them different `methods`, or change a fixed part",
                );
            }
            matchit::InsertError::InvalidCatchAll => {
                report.error(text.place, format!("in `{pattern}`, `{{*name}}` must be the last part"));
            }
            matchit::InsertError::InvalidParamSegment => {
                report.error(text.place, format!("`{pattern}` has two parameters between two slashes"));
            }
            _ => report.error_help(
                text.place,
                format!("`{pattern}` is no path pattern"),
                "a parameter is `{name}`, the rest of the path `{*name}`",
            ),
        }
    }
}

/// Where both lists hold the same method (an empty one holds all): a remark about which.
fn overlap(a: &[http::Method], b: &[http::Method]) -> Option<String> {
    if a.is_empty() || b.is_empty() {
        return Some(String::new());
    }
    a.iter().find(|method| b.contains(method)).map(|method| format!(" for {method}"))
}

/// What matchit takes, but what no request could match, or what was hardly meant.
fn check_text(text: &Text, report: &mut Report<'_>) -> Option<()> {
    let pattern = text.value.as_str();
    if !pattern.starts_with('/') {
        report.error_help(
            text.place,
            format!("the path `{pattern}` does not begin with `/`"),
            format!("write `/{pattern}`"),
        );
        return None;
    }
    if let Some(c) = pattern.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#')) {
        report.error(text.place, format!("{c:?} never stands in a request's path"));
        return None;
    }
    if let Some(start) = pattern.strip_suffix("/*") {
        report.error_help(
            text.place,
            format!("`*` is an ordinary character in `{pattern}`"),
            format!("write `{start}/{{*path}}` for everything below it"),
        );
        return None;
    }
    if let Some(name) = pattern.split('/').find_map(|part| part.strip_prefix(':')) {
        report.warn(text.place, format!("`:{name}` is ordinary text; a parameter is `{{{name}}}`"));
    }
    check_spelling(text, report)
}

/// Requests are matched in one spelling of their path; one that no request has is an error, with the one to write.
fn check_spelling(text: &Text, report: &mut Report<'_>) -> Option<()> {
    let written = text.value.as_str();
    let spelt = canonical(written);
    if spelt == written {
        return Some(());
    }
    report.error_help(
        text.place,
        format!("`{written}` is not how the path of a request is spelt"),
        format!("write `{spelt}`"),
    );
    None
}

/// A pattern as the paths of requests are spelt: without empty and dot segments, encoded only where that is needed.
fn canonical(pattern: &str) -> String {
    let mut spelt = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let byte = rest.get(1..3).filter(|_| c == '%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let parameter = rest.find('}').filter(|_| c == '{' && !rest.starts_with("{{"));
        let length = match (byte, parameter) {
            (Some(byte), _) => {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    spelt.push(char::from(byte));
                } else {
                    spelt.push_str(&rest[..3].to_ascii_uppercase());
                }
                3
            }
            (_, Some(end)) => {
                spelt.push_str(&rest[..=end]);
                end + 1
            }
            _ if rest.starts_with("{{") || rest.starts_with("}}") => {
                spelt.push_str(if c == '{' { "%7B" } else { "%7D" });
                2
            }
            // What is wrong with a lone brace, matchit says.
            _ if c.is_ascii_graphic() && !"%\"<>\\^`|".contains(c) => {
                spelt.push(c);
                1
            }
            _ => {
                let bytes = percent_encoding::utf8_percent_encode(&rest[..c.len_utf8()], NON_ALPHANUMERIC);
                spelt.extend(bytes);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    let last = spelt.matches('/').count();
    let segments = spelt.split('/').enumerate();
    let kept = segments.filter(|(at, part)| *at == 0 || *at == last || !matches!(*part, "" | "." | ".."));
    let mut kept: Vec<&str> = kept.map(|(_, segment)| segment).collect();
    if let Some(last) = kept.last_mut().filter(|last| matches!(**last, "." | "..")) {
        *last = "";
    }
    kept.join("/")
}

/// The names of a pattern's parameters, and whether each is `{*name}`.
fn parameters(pattern: &str) -> Vec<(&str, bool)> {
    let mut names = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('{') {
        rest = &rest[at + 1..];
        if let Some(escaped) = rest.strip_prefix('{') {
            rest = escaped; // `{{` is a brace
            continue;
        }
        let Some((name, after)) = rest.split_once('}') else { break };
        names.push((name.trim_start_matches('*'), name.starts_with('*')));
        rest = after;
    }
    names
}

/// Reads a rewrite against the patterns of its rule.
pub(super) fn rewrite(text: &Text, patterns: &[String], report: &mut Report<'_>) -> Option<Rewrite> {
    let written = text.value.as_str();
    if !written.starts_with('/')
        || written.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c))
    {
        report.error_help(text.place, format!("`{written}` is no path"), "a rewrite is a path such as `/v2`");
        return None;
    }
    if let Some(start) = written.strip_suffix("/*") {
        report.error_help(
            text.place,
            format!("`*` is an ordinary character in `{written}`"),
            format!("write `/{}`: what `{{*name}}` matched is put behind it", start.trim_start_matches('/')),
        );
        return None;
    }
    check_spelling(text, report)?;
    let mut parts = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find('{') {
        let Some((name, after)) = rest[at + 1..].split_once('}') else {
            report.error(text.place, format!("a `{{` in `{written}` is not closed"));
            return None;
        };
        let name = name.trim_start_matches('*');
        for pattern in patterns {
            let known = parameters(pattern);
            if !known.iter().any(|(known, _)| *known == name) {
                let what = format!("parameter of `{pattern}`");
                report.unknown(text.place, &what, name, known.iter().map(|(name, _)| *name));
                return None;
            }
        }
        if at > 0 {
            parts.push(RewritePart::Text(rest[..at].to_owned()));
        }
        parts.push(RewritePart::Param(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(RewritePart::Text(rest.to_owned()));
    }
    let named = |name: &str| parts.contains(&RewritePart::Param(name.to_owned()));
    let rest = patterns
        .iter()
        .map(|pattern| {
            let rest = parameters(pattern).into_iter().find(|(name, all)| *all && !named(name));
            rest.map(|(name, _)| name.to_owned())
        })
        .collect();
    Some(Rewrite { parts, rest })
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn a_pattern_has_one_spelling() {
        for (written, spelt) in [
            ("/a/{id}.json/{*rest}", "/a/{id}.json/{*rest}"),
            ("/", "/"),
            ("/a/", "/a/"),
            ("//a///b/", "/a/b/"),
            ("/a/./b/../c", "/a/b/c"),
            ("/a/..", "/a/"),
            ("/%61%2fb%C3%a9", "/a%2Fb%C3%A9"),
            ("/café|\"", "/caf%C3%A9%7C%22"),
            ("/100%", "/100%25"),
            ("/{{a}}", "/%7Ba%7D"),
            ("/{ü}/ü", "/{ü}/%C3%BC"),
            ("/{", "/{"),
        ] {
            assert_eq!(canonical(written), spelt, "{written}");
            assert_eq!(canonical(spelt), spelt);
        }
    }
}
