//! What a verified token has to say, and what of it the service is told.

use super::Refusal;
use super::token::Claims;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use nylon_config::plan::JwtAuth;
use nylon_core::Op;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Checks the claims of a token at `now`.
pub(super) fn check(rules: &JwtAuth, claims: &Claims, now: SystemTime) -> Result<(), Refusal> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let leeway = rules.leeway.as_secs_f64();
    match claims.get("exp") {
        Some(Value::Number(end)) if end.as_f64().is_some_and(|end| now < end + leeway) => {}
        Some(Value::Number(_)) => return Err(Refusal::Invalid("the token has expired")),
        Some(_) => return Err(Refusal::Invalid("the token's `exp` is no number")),
        None if rules.needs_expiry => return Err(Refusal::Invalid("the token has no `exp`")),
        None => {}
    }
    match claims.get("nbf") {
        Some(Value::Number(start)) if start.as_f64().is_some_and(|start| now + leeway >= start) => {}
        Some(Value::Number(_)) => return Err(Refusal::Invalid("the token is not valid yet")),
        Some(_) => return Err(Refusal::Invalid("the token's `nbf` is no number")),
        None => {}
    }
    let is_text = |value: Option<&Value>, wanted: &[String]| match value {
        Some(Value::String(text)) => wanted.contains(text),
        _ => false,
    };
    if !rules.issuers.is_empty() && !is_text(claims.get("iss"), &rules.issuers) {
        return Err(Refusal::Invalid("the token is by another issuer"));
    }
    let audience = match claims.get("aud") {
        Some(Value::Array(many)) => many.iter().any(|one| is_text(Some(one), &rules.audiences)),
        one => is_text(one, &rules.audiences),
    };
    if !rules.audiences.is_empty() && !audience {
        return Err(Refusal::Invalid("the token is for another audience"));
    }
    if rules.required.iter().any(|name| claims.get(name).is_none_or(Value::is_null)) {
        return Err(Refusal::Invalid("the token lacks a claim"));
    }
    let scopes = scopes(claims);
    if !rules.scopes.iter().all(|scope| scopes.contains(&scope.as_str())) {
        return Err(Refusal::Insufficient);
    }
    let holds = |(name, wanted): &(String, Vec<String>)| match find(claims, name) {
        Some(Value::Array(many)) => {
            many.iter().any(|one| scalar(one).is_some_and(|one| wanted.contains(&one)))
        }
        Some(one) => scalar(one).is_some_and(|one| wanted.contains(&one)),
        None => false,
    };
    if rules.claims.iter().all(holds) { Ok(()) } else { Err(Refusal::Insufficient) }
}

/// What the token allows: `scope` (RFC 8693, 4.2), words in one text, or `scp`, a list, as some issuers have it.
fn scopes(claims: &Claims) -> Vec<&str> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(words)) => words.split(' ').collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The claim of that name; a name with dots also leads into objects (`realm_access.roles`).
fn find<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The header that tells the service of a claim; `None` where the token has no such claim. A list becomes its items with
/// commas between them.
pub(super) fn header(claims: &Claims, claim: &str) -> Result<Option<HeaderValue>, Refusal> {
    const UNFIT: Refusal = Refusal::Invalid("a claim of the token cannot stand in a header");
    let text = match find(claims, claim) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            let items = items.ok_or(UNFIT)?;
            // An item with a comma would be read as two.
            if items.iter().any(|item| item.contains(',')) {
                return Err(UNFIT);
            }
            items.join(",")
        }
        Some(one) => scalar(one).ok_or(UNFIT)?,
    };
    Op::header_value(Bytes::from(text)).map(Some).map_err(|_| UNFIT)
}

/// The operations that tell the service: what a client itself has sent under those names never gets there.
pub(super) fn ops(headers: &[(HeaderName, String)], claims: &Claims) -> Result<Vec<Op>, Refusal> {
    let told = headers.iter().map(|(name, claim)| {
        Ok(match header(claims, claim)? {
            Some(value) => Op::SetRequestHeader(name.clone(), value),
            None => Op::RemoveRequestHeader(name.clone()),
        })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nylon_config::plan::{Secret, TokenKeys};
    use nylon_config::token_keys::Algorithm;
    use serde_json::json;
    use std::time::Duration;

    const NOW: u64 = 1_800_000_000;

    fn rules() -> JwtAuth {
        JwtAuth {
            issuers: vec!["https://idp".into()],
            audiences: vec!["api".into(), "web".into()],
            leeway: Duration::from_secs(30),
            needs_expiry: true,
            keys: TokenKeys::Secret(Secret::new(String::new())),
            algorithms: vec![Algorithm::HS256],
            required: vec![],
            scopes: vec![],
            claims: vec![],
            header: http::header::AUTHORIZATION,
            cookie: None,
            query: None,
            headers: vec![],
            forward_token: true,
            realm: String::new(),
        }
    }

    fn checked(rules: &JwtAuth, changes: Value) -> Result<(), Refusal> {
        let mut claims = json!({ "iss": "https://idp", "aud": "api", "exp": NOW + 100, "sub": "a" });
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
            if value == "none" {
                claims.as_object_mut().expect("an object").remove(name);
            }
        }
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        check(rules, claims.as_object().expect("an object"), now)
    }

    #[test]
    fn times_issuer_and_audience_are_held_to() {
        for taken in [
            json!({}),
            json!({ "exp": NOW - 29, "nbf": NOW + 30 }),
            json!({ "exp": NOW as f64 + 0.5 }),
            json!({ "aud": ["other", "web"] }),
        ] {
            assert_eq!(checked(&rules(), taken.clone()), Ok(()), "{taken}");
        }
        for refused in [
            json!({ "exp": NOW - 30 }),
            json!({ "exp": "never" }),
            json!({ "exp": null }),
            json!({ "exp": -1 }),
            json!({ "exp": "none" }),
            json!({ "nbf": NOW + 31 }),
            json!({ "nbf": "soon" }),
            json!({ "iss": "https://idp/" }),
            json!({ "iss": ["https://idp"] }),
            json!({ "iss": "none" }),
            json!({ "aud": "apis" }),
            json!({ "aud": [] }),
            json!({ "aud": { "api": 1 } }),
            json!({ "aud": "none" }),
        ] {
            assert!(matches!(checked(&rules(), refused.clone()), Err(Refusal::Invalid(_))), "{refused}");
        }
    }

    #[test]
    fn what_a_token_may_is_another_question_than_whose_it_is() {
        let mut rules = JwtAuth {
            required: vec!["sub".into()],
            scopes: vec!["read".into(), "write".into()],
            claims: vec![("realm.roles".into(), vec!["admin".into(), "ops".into()])],
            ..rules()
        };
        let enough = json!({ "scope": "write x read", "realm": { "roles": ["ops"] } });
        assert_eq!(checked(&rules, enough), Ok(()));
        assert_eq!(
            checked(&rules, json!({ "scp": ["read", "write"], "realm": { "roles": "admin" } })),
            Ok(())
        );
        for little in [
            json!({ "scope": "write", "realm": { "roles": ["ops"] } }),
            json!({ "scope": "write readable", "realm": { "roles": ["ops"] } }),
            json!({ "scope": "write read", "realm": { "roles": ["op"] } }),
            json!({ "scope": "write read" }),
        ] {
            assert_eq!(checked(&rules, little.clone()), Err(Refusal::Insufficient), "{little}");
        }
        rules.required.push("email".into());
        assert_eq!(checked(&rules, json!({})), Err(Refusal::Invalid("the token lacks a claim")));
    }

    #[test]
    fn claims_reach_the_service_and_a_clients_own_headers_do_not() {
        let claims = json!({
            "sub": "a", "n": 7, "roles": ["x", "y"], "https://e.com/t": "v", "evil": "a\r\nx-admin: 1",
            "commas": ["a,b"], "deep": { "er": true }, "object": {},
        });
        let claims = claims.as_object().expect("an object");
        let value =
            |claim| header(claims, claim).map(|value| value.map(|v| v.to_str().expect("text").to_owned()));
        assert_eq!(value("sub"), Ok(Some("a".into())));
        assert_eq!(value("n"), Ok(Some("7".into())));
        assert_eq!(value("roles"), Ok(Some("x,y".into())));
        assert_eq!(value("https://e.com/t"), Ok(Some("v".into())));
        assert_eq!(value("deep.er"), Ok(Some("true".into())));
        assert_eq!(value("nobody"), Ok(None));
        for unfit in ["evil", "commas", "object"] {
            assert!(matches!(value(unfit), Err(Refusal::Invalid(_))), "{unfit}");
        }
        let name = HeaderName::from_static("x-user");
        let ops = ops(&[(name.clone(), "nobody".to_owned())], claims).expect("ops");
        assert_eq!(ops, [Op::RemoveRequestHeader(name)]);
    }
}
