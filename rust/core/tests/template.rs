//! Templates: what they render to, what is refused where, and that no text breaks the parser.

use http::{HeaderMap, HeaderValue, Method, Version};
use nylon_core::template::{Hint, MAX_RENDERED, TooLong};
use nylon_core::{Exchange, Params, RequestFacts, RequestHead, RequestId, Scheme, TargetPart, Template};
use proptest::prelude::*;

fn env(name: &str) -> Option<String> {
    match name {
        "REGION" => Some("north".to_owned()),
        "QUOTES" => Some("'a' \"b\" ${header(x)}".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Template {
    Template::parse(text, &env).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn exchange() -> Exchange {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("x-user", "ann"), ("cookie", "sid=7; theme=\"dark\""), ("cookie", "sid=8"), ("x-a", "1")]
    {
        headers.append(name, HeaderValue::from_static(value));
    }
    headers.append("x-a", HeaderValue::from_static("2"));
    let facts = RequestFacts {
        id: RequestId([0xab; 16]),
        scheme: Scheme::Https,
        host: "shop.example:8443".parse().expect("authority"),
        client_ip: [192, 0, 2, 7].into(),
        received_at: std::time::SystemTime::UNIX_EPOCH,
        params: Params::new([("id", "a b")]),
    };
    let request = RequestHead {
        method: Method::POST,
        path: TargetPart::path("/items/a%20b".into()).expect("path"),
        query: TargetPart::query("q=%E2%82%AC+1&empty=&q=2".into()),
        version: Version::HTTP_11,
        headers,
    };
    Exchange::new(facts, request)
}

fn render(text: &str) -> String {
    parse(text).render(&exchange()).expect("short enough")
}

#[test]
fn every_function_gives_what_it_is_named_for() {
    for (template, rendered) in [
        ("", ""),
        ("plain", "plain"),
        ("a-${header(x-user)}-b", "a-ann-b"),
        ("${header('X-User')}", "ann"),
        ("${header(x-a)}", "1, 2"),
        ("${header(x-none)}", ""),
        ("${header(x-none, 'd')}", "d"),
        ("${query(q)}", "€ 1"),
        ("${query(empty, 'd')}", ""),
        ("${query(none, 'd')}", "d"),
        ("${query(none, header(x-user))}", "ann"),
        ("${cookie(sid)}${cookie(theme)}", "7dark"),
        ("${cookie(none, 'd')}", "d"),
        ("${param(id)}", "a b"),
        ("${param(none, \"it's\")}", "it's"),
        ("${request(client_ip)} ${client_ip} ${var(client_ip)}", "192.0.2.7 192.0.2.7 192.0.2.7"),
        ("${request(method)} ${request(scheme)}://${request(host)}", "POST https://shop.example:8443"),
        ("${request(path)}?${request(query)}", "/items/a%20b?q=%E2%82%AC+1&empty=&q=2"),
        ("${request(id)}", "abababababababababababababababab"),
        ("${if_cond(request(tls), 'secure', 'plain')}", "secure"),
        ("${if_cond(header(x-none), 'yes', 'no')}", "no"),
        ("${env(REGION)}-${env(NOT_SET)}", "north-"),
        ("${or(env(NOT_SET), header(x-none), 'last')}", "last"),
        ("${or(header(x-none))}", ""),
        ("${eq(request(method), 'POST', 'write')}${eq(header(x-user), 'ann')}", "writeann"),
        ("${eq(header(x-user), 'bob', 'x')}", ""),
        ("${neq(header(x-user), 'bob')}${neq(header(x-user), 'bob', 'other')}", "annother"),
        ("${neq(header(x-user), 'ann', 'x')}", ""),
        ("${ concat( 'a' , upper(header(x-user)) ,\"b\" ) }", "aANNb"),
        ("${lower('ÄB')}${upper('straße')}${len(query(q))}", "äbSTRASSE3"),
        ("$${header(x)} costs 3$ or $$", "${header(x)} costs 3$ or $$"),
        ("${'$'}${header(x-user)}", "$ann"),
        ("${concat('}', '{', \"'\")}", "}{'"),
        ("${env(QUOTES)}", "'a' \"b\" ${header(x)}"),
    ] {
        assert_eq!(render(template), rendered, "{template}");
    }
}

#[test]
fn what_differs_each_time_has_its_form() {
    assert_ne!(render("${uuid(v4)}"), render("${uuid(v4)}"));
    for (template, version) in [("${uuid(v4)}", '4'), ("${uuid(v7)}", '7')] {
        let uuid = render(template);
        assert_eq!((uuid.len(), uuid.chars().nth(14)), (36, Some(version)), "{uuid}");
    }
    let time = render("${timestamp()}");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{time}");
}

#[test]
fn what_does_not_ask_for_the_request_is_constant() {
    for (template, constant) in [
        ("", Some("")),
        ("a$${b}", Some("a${b}")),
        ("${env(REGION)}-${upper(concat('a', env(REGION)))}", Some("north-ANORTH")),
        ("${if_cond(env(NOT_SET), 'a', eq('x', 'x'))}", Some("x")),
        ("${header(x)}", None),
        ("a${uuid(v4)}", None),
        ("${timestamp()}", None),
    ] {
        assert_eq!(parse(template).constant(), constant, "{template}");
    }
}

#[test]
fn each_mistake_is_told_with_its_place() {
    for (template, place, reason) in [
        ("a ${header(x", "${header(x", "`${` is not closed"),
        ("a ${", "${", "`${` is not closed"),
        ("${header(x}", "}", "expected `,` or `)`"),
        ("${}", "}", "expected a function"),
        ("${header(x) y}", "y", "expected `}` behind the expression"),
        ("${heder(x)}", "heder", "unknown template function: `heder`"),
        ("${upper()}", "upper", "`upper` takes one argument, found 0"),
        ("${len('a', 'b')}", "len", "`len` takes one argument, found 2"),
        ("${header()}", "header", "`header` takes 1 or 2 arguments, found 0"),
        ("${timestamp(now)}", "timestamp", "`timestamp` takes no argument, found 1"),
        ("${if_cond('a', 'b')}", "if_cond", "`if_cond` takes 3 arguments, found 2"),
        ("${eq('a')}", "eq", "`eq` takes 2 or 3 arguments, found 1"),
        ("${or()}", "or", "`or` takes at least 1, found 0"),
        ("${request(ip)}", "ip", "a request has no `ip`"),
        ("${uuid(v5)}", "v5", "unknown version of a UUID: `v5`"),
        ("${header('a b')}", "'a b'", "`a b` is no header name"),
        ("${query(header(x))}", "header(x)", "`query` takes a name, which has to be known beforehand"),
        ("${or(header(x), none)}", "none", "`none` is neither a call nor text in quotes"),
        ("${HOME}", "HOME", "`HOME` is no template"),
        ("${upper('x)}", "'x)}", "the text in quotes is not closed"),
        ("ü ${é}", "é", "expected a function"),
    ] {
        let error = Template::parse(template, &env).expect_err(template);
        assert_eq!((&template[error.span.clone()], &*error.reason), (place, reason), "{template}");
    }
    let error = Template::parse("${heder(x)}", &env).expect_err("a misspelt name");
    assert!(matches!(error.hint, Hint::OneOf(known) if known.contains(&"header")));
}

#[test]
fn calls_in_each_other_have_an_end() {
    let deep = |depth| format!("${{{}'x'{}}}", "upper(".repeat(depth), ")".repeat(depth));
    assert_eq!(parse(&deep(32)).constant(), Some("X"));
    assert!(Template::parse(&deep(33), &env).is_err());
    assert!(Template::parse(&deep(100_000), &env).is_err());
}

#[test]
fn what_the_client_sends_is_never_a_template_and_never_grows_without_bound() {
    let mut exchange = exchange();
    let value = |text: &str| HeaderValue::from_str(text).expect("value");
    exchange.request.headers.insert("x-user", value("${env(REGION)}"));
    assert_eq!(parse("${upper(header(x-user))}").render(&exchange).expect("short"), "${ENV(REGION)}");
    exchange.request.headers.insert("x-user", value(&"a".repeat(MAX_RENDERED / 2)));
    let twice = parse("${header(x-user)}${header(x-user)}");
    assert_eq!(twice.render(&exchange).map(|text| text.len()), Ok(MAX_RENDERED));
    for template in
        ["x${header(x-user)}${header(x-user)}", "${len(concat(header(x-user), header(x-user), 'x'))}"]
    {
        assert_eq!(parse(template).render(&exchange), Err(TooLong), "{template}");
    }
    exchange.request.headers.insert("x-user", HeaderValue::from_bytes(b"a\xff").expect("value"));
    assert_eq!(parse("${header(x-user)}").render(&exchange).expect("short"), "a\u{fffd}");
}

/// Expressions as somebody may write them.
fn expression() -> impl Strategy<Value = String> {
    let text = "[a-z$ {}]{0,4}|[a-z$]*[\"][a-z\"]*".prop_map(|text| match text.contains('"') {
        true => format!("'{text}'"),
        false => format!("\"{text}\""),
    });
    let name = "[a-z][a-z0-9_-]{0,5}";
    let leaf = prop_oneof![
        text,
        name.prop_map(|name| format!("header({name})")),
        name.prop_map(|name| format!("cookie( '{name}' )")),
        Just("client_ip".to_owned()),
        Just("uuid(v7)".to_owned()),
        Just("timestamp()".to_owned()),
        Just("env(QUOTES)".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        prop_oneof![
            (name, inner.clone()).prop_map(|(name, default)| format!("query({name}, {default})")),
            (name, inner.clone()).prop_map(|(name, default)| format!("param({name},{default})")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|of| format!("or({})", of.join(","))),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|of| format!("concat({})", of.join(", "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|of| format!("neq({})", of.join(" , "))),
            prop::collection::vec(inner.clone(), 3..4).prop_map(|of| format!("if_cond({})", of.join(","))),
            inner.clone().prop_map(|of| format!("upper({of})")),
            inner.prop_map(|of| format!("len({of})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in r#"([$]|[{}]|[(),'"]|[a-z_]|header|concat\(|é| |\PC){0,40}"#) {
        if let Err(error) = Template::parse(&text, &env) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{:?} of {:?}", error.span, text);
        }
    }

    #[test]
    fn a_template_is_written_as_it_is_read(
        pieces in prop::collection::vec(("[a-z$ {}]{0,5}", expression()), 0..4), last in "[$a-z{}]{0,5}"
    ) {
        let mut text: String =
            pieces.iter().map(|(plain, inside)| format!("{}${{{inside}}}", plain.replace("${", "$${"))).collect();
        text.push_str(&last.replace("${", "$${"));
        if let Ok(template) = Template::parse(&text, &env) {
            prop_assert_eq!(parse(&template.to_string()), template);
        }
    }
}
