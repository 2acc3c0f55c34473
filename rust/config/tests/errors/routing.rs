//! Mistakes in routes, paths and middleware.

use super::case;

#[test]
fn misspelt_keys_and_words_never_leave_a_route_open() {
    let known = |name| Some(format!("did you mean `{name}`?"));
    case(
        "    middleware: [{group",
        "    midleware: [{group",
        "midleware",
        "unknown key `midleware` in a route",
        known("middleware").as_deref(),
    );
    case(
        "{group: safe}",
        "{grop: safe}",
        "grop",
        "unknown key `grop` in a middleware",
        known("group").as_deref(),
    );
    case(
        "{group: safe}",
        "{group: save}",
        "save",
        "unknown middleware group: `save`",
        known("safe").as_deref(),
    );
    case(
        "{plugin: auth, entry: jwt}",
        "{plugin: auht, entry: jwt}",
        "auht",
        "unknown plugin: `auht`",
        known("auth").as_deref(),
    );
    case("  safe: [{", "  safer: [{", "safe", "unknown middleware group: `safe`", known("safer").as_deref());
    case("service: {name: up,", "service: {name: ap,", "ap", "unknown service: `ap`", known("up").as_deref());
    case(
        "messaging: broker",
        "messaging: brokre",
        "brokre",
        "unknown messaging connection: `brokre`",
        known("broker").as_deref(),
    );
    case(
        "service_type: plugin,",
        "service_type: pluging,",
        "pluging",
        "unknown service_type: `pluging`",
        known("plugin").as_deref(),
    );
    case(
        "methods: [GET]",
        "zethods_of: [GET]",
        "zethods_of",
        "unknown key `zethods_of` in a path",
        Some("known: `path`, `methods`, `service`, `middleware`"),
    );
}

#[test]
fn middleware_must_say_what_it_is() {
    case(
        "{plugin: auth, entry: jwt}",
        "{plugin: auth}",
        "auth",
        "which entry of `auth`?",
        Some("add `entry:` with the name that its handler is registered under"),
    );
    case(
        "{plugin: auth, entry: jwt}",
        "{payload: 1}",
        "payload",
        "a middleware needs a `plugin` or a `group`",
        None,
    );
    case("[{plugin: auth, entry: jwt}]", "[{group: safe}]", "safe", "the group `safe` holds itself", None);
    case(
        "    middleware: [{group: safe}]",
        "    middleware: [{group: safe, entry: x}]",
        "group",
        "a middleware is either a `group` or a plugin: `entry` does not belong here",
        None,
    );
    case(
        "[{group: safe}]",
        "[safe]",
        "safe",
        "expected a mapping, found text",
        Some("a middleware has the keys `plugin`, `entry`, `payload`, `per_phase`, `group`, `when`"),
    );
    case("[{group: safe}]", "safe", "safe", "expected a list, found text", Some("write `[safe]`"));
}

#[test]
fn paths_that_could_not_work_are_errors() {
    let parameter = "a parameter is `{name}`, the rest of the path `{*name}`";
    case(
        "path: /answer",
        "path: answer",
        "answer",
        "the path `answer` does not begin with `/`",
        Some("write `/answer`"),
    );
    case(
        "path: /answer",
        "path: /answer/*",
        "/answer/*",
        "`*` is an ordinary character in `/answer/*`",
        Some("write `/answer/{*path}` for everything below it"),
    );
    case(
        "path: /answer",
        "path: '/{*a}/b'",
        "'/{*a}/b'",
        "in `/{*a}/b`, `{*name}` must be the last part",
        None,
    );
    case(
        "path: /answer",
        "path: '/{a}{b}'",
        "'/{a}{b}'",
        "`/{a}{b}` has two parameters between two slashes",
        None,
    );
    case("path: /answer", "path: '/{a'", "'/{a'", "`/{a` is no path pattern", Some(parameter));
    case("path: /answer", "path: '/a?b'", "'/a?b'", "'?' never stands in a request's path", None);
    case(
        "path: /answer",
        "path: '/x/{other}'",
        "'/x/{other}'",
        "`/x/{other}` cannot be told apart from `/x/{id}`, see nylon.yaml:18:16",
        Some("write one pattern in both and give them different `methods`, or change a fixed part"),
    );
    case(
        "path: /answer",
        "path: //answer/%7e{id}",
        "//answer/%7e{id}",
        "`//answer/%7e{id}` is not how the path of a request is spelt",
        Some("write `/answer/~{id}`"),
    );
    case(
        "rewrite: '/y/'",
        "rewrite: /é/",
        "/é/",
        "`/é/` is not how the path of a request is spelt",
        Some("write `/%C3%A9/`"),
    );
    case(
        "path: /answer",
        "path: '/x/{id}'",
        "'/x/{id}'",
        "`/x/{id}` leads somewhere already, see nylon.yaml:18:16",
        None,
    );
    case("path: /answer", "path: []", "path", "the list of paths is empty", None);
    case("rewrite: '/y/'", "rewrite: y", "y", "`y` is no path", Some("a rewrite is a path such as `/v2`"));
    case(
        "rewrite: '/y/'",
        "rewrite: '/{id}'",
        "'/{id}'",
        "unknown parameter of `/{*all}`: `id`",
        Some("known: `all`"),
    );
    case("[GET]", "[get]", "get", "no request has the method `get`", Some("methods are in capitals: `GET`"));
    case("[GET]", "['G T']", "'G T'", "`G T` is no method", None);
}

#[test]
fn hosts_and_matchers_are_checked() {
    case(
        "value: a.test",
        "value: 'a.test:80'",
        "'a.test:80'",
        "`a.test:80` is no host",
        Some("write `a.test`: a route holds for every port"),
    );
    case(
        "value: a.test",
        "value: 'a.test||b'",
        "'a.test||b'",
        "`` is no host",
        Some("write names such as `a.com|b.com`, `*.example.com`, or `*` for every host"),
    );
    case(
        "value: a.test",
        "value: 'a.test|A.test'",
        "'a.test|A.test'",
        "the host `A.test` has a route already, see nylon.yaml:14:32",
        None,
    );
    case("header_selector: x-pick", "header_selector: x pick", "x pick", "`x pick` is no header name", None);
}
