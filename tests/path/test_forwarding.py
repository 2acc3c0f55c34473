"""What the gateway says of itself and of its client, and what it keeps to itself (RFC 9110, 7.6)."""

from __future__ import annotations

import pytest
from support.client import Connection, chunked, fetch, request_bytes
from support.configs import Config
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess, Start
from support.waiting import eventually

Plain = tuple[GatewayProcess, Origin]


def forwarded(plain: Plain, path: str, headers: list[tuple[str, str]], method: str = "GET") -> Received:
    gateway, origin = plain
    answer = fetch(gateway.address, method, path, headers)
    assert answer.status == 200, answer
    (received,) = origin.received(path)
    return received


def test_the_client_is_named_to_the_origin(plain: Plain) -> None:
    seen = forwarded(plain, "/named", [("host", "shop.example:8080")])
    assert seen.header("host") == "shop.example:8080"
    assert seen.header("x-forwarded-for") == "127.0.0.1"
    assert seen.header("x-forwarded-proto") == "http"
    assert seen.header("x-forwarded-host") == "shop.example:8080"
    assert (seen.header("via") or "").startswith("1.1 ")


def test_what_a_stranger_says_of_its_client_is_replaced(plain: Plain) -> None:
    lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "admin.internal"),
        ("forwarded", "for=6.6.6.6;proto=https"),
        ("via", "1.1 nobody"),
    ]
    seen = forwarded(plain, "/lies", [*lies, ("host", "shop.example")])
    assert seen.all("x-forwarded-for") == ["127.0.0.1"]
    assert seen.all("x-forwarded-proto") == ["http"]
    assert seen.all("x-forwarded-host") == ["shop.example"]
    assert seen.all("forwarded") == []
    assert seen.all("via") == ["1.1 nylon"]


def test_what_a_trusted_proxy_says_of_its_client_counts(origin: Origin, start: Start) -> None:
    gateway = start(trusted_proxies=["127.0.0.0/8"])
    headers = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("via", "1.1 first"),
    ]
    assert fetch(gateway.address, "GET", "/trusted", headers).status == 200
    (seen,) = origin.received("/trusted")
    hops = [hop.strip() for value in seen.all("x-forwarded-for") for hop in value.split(",")]
    assert hops == ["6.6.6.6", "203.0.113.9", "127.0.0.1"]
    assert seen.all("x-forwarded-proto") == ["https"]
    assert seen.all("x-forwarded-host") == ["shop.example"]
    assert ", ".join(seen.all("via")) == "1.1 first, 1.1 nylon"


def test_hop_by_hop_fields_of_a_request_are_not_forwarded(plain: Plain) -> None:
    named = [
        ("connection", "close, X-Named, keep-alive"),
        ("connection", "x-other"),
        ("x-named", "1"),
        ("x-other", "1"),
    ]
    always = [
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("trailer", "x-t"),
    ]
    seen = forwarded(plain, "/hop", [*named, *always, ("x-kept", "1")])
    for name in ("x-named", "x-other", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"):
        assert seen.all(name) == [], name
    assert "close" not in [value.lower() for value in seen.all("connection")]
    assert seen.header("x-kept") == "1"


def test_hop_by_hop_fields_of_a_response_are_not_passed_on(plain: Plain) -> None:
    gateway, origin = plain
    headers = [("connection", "x-named"), ("x-named", "1"), ("keep-alive", "timeout=5"), ("x-kept", "1")]
    origin.answer("/hop-back", Reply(200, headers, b"body"))
    answer = fetch(gateway.address, "GET", "/hop-back")
    assert answer.all("x-named") == answer.all("keep-alive") == []
    assert (answer.header("x-kept"), answer.body) == ("1", b"body")


def test_other_fields_pass_as_they_are_both_ways(plain: Plain) -> None:
    gateway, origin = plain
    headers = [
        ("x-dup", "1"),
        ("x-dup", "2"),
        ("x-raw", "\xff\xfe"),
        ("x-empty", ""),
        ("cookie", "a=1"),
        ("authorization", "B x"),
    ]
    origin.answer(
        "/fields", Reply(200, [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-raw", "\xff\xfe")])
    )
    answer = fetch(gateway.address, "GET", "/fields", headers)
    (seen,) = origin.received("/fields")
    for name, value in headers:
        assert value in seen.all(name)
    assert seen.all("x-dup") == ["1", "2"]
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer.header("x-raw") == "\xff\xfe"


def target_of(plain: Plain, target: str) -> str:
    """The target as it reached the origin."""
    gateway, origin = plain
    before = len(origin.requests)
    assert fetch(gateway.address, "GET", target).status == 200
    return origin.requests[before].target


@pytest.mark.parametrize(
    "target", ["/", "/;p=1,2:@!$&'()*+~", "/%C3%A9?q=%20+&a[]=1", "/a%2Fb", "/a?b=/../c//d"]
)
def test_a_target_passes_as_it_was_written(plain: Plain, target: str) -> None:
    assert target_of(plain, target) == target


@pytest.mark.parametrize(
    ("target", "normal"),
    [("/a/../b", "/b"), ("/a/./b", "/a/b"), ("/a//b/", "/a/b/"), ("/%61%7e", "/a~"), ("/%c3", "/%C3")],
)
def test_a_path_has_one_spelling(plain: Plain, target: str, normal: str) -> None:
    """So that a route which guards a path guards all its spellings (RFC 3986, 6.2.2)."""
    assert target_of(plain, target) == normal


def test_an_absolute_target_is_forwarded_as_a_path(plain: Plain) -> None:
    gateway, origin = plain
    answer = fetch(gateway.address, "GET", "http://shop.example/absolute?a=1", {"host": "shop.example"})
    assert answer.status == 200
    (seen,) = origin.received("/absolute")
    assert seen.target == "/absolute?a=1"
    assert seen.header("host") == "shop.example"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_methods_pass(plain: Plain, method: str) -> None:
    assert forwarded(plain, f"/method-{method}", [], method).method == method


def test_expectation_is_met_by_the_gateway_and_the_body_follows(plain: Plain) -> None:
    gateway, _ = plain
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("POST", "/expect", {"expect": "100-continue", "content-length": "4"}))
        status, *_ = connection.read_head()
        assert status == 100
        connection.send(b"body")
        answer = connection.read_answer()
    assert answer.status == 200
    assert answer.json()["body"] == "body"


def test_a_request_that_expects_nothing_gets_no_interim_answer(plain: Plain) -> None:
    gateway, _ = plain
    assert fetch(gateway.address, "POST", "/no-expect", {}, b"body").interim == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_body_arrives_in_its_framing(plain: Plain, framing: str) -> None:
    gateway, origin = plain
    body = b"x" * 100_000
    headers: dict[str, str] = {"transfer-encoding": "chunked"} if framing == "chunked" else {}
    wire = chunked(body[:10], body[10:]) if framing == "chunked" else body
    assert fetch(gateway.address, "POST", f"/body-{framing}", headers, wire).status == 200
    (seen,) = origin.received(f"/body-{framing}")
    assert seen.body == body
    assert seen.chunked == (framing == "chunked")
    assert len(seen.all("content-length")) == (0 if seen.chunked else 1)


def test_a_get_without_a_body_is_forwarded_without_one(plain: Plain) -> None:
    seen = forwarded(plain, "/no-body", [])
    assert seen.all("content-length") == seen.all("transfer-encoding") == []


def test_an_upgrade_passes_and_then_every_byte_does(plain: Plain) -> None:
    gateway, origin = plain

    def behaviour(line: Line, request: Received) -> None:
        assert request.header("upgrade") == "echo/1"
        line.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo/1\r\n\r\nhello ")
        while True:
            line.send(line.read_some().upper())

    origin.behave("/upgrade", behaviour)
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("GET", "/upgrade", {"connection": "Upgrade", "upgrade": "echo/1"}))
        status, _, _, headers = connection.read_head()
        assert status == 101
        fields = {name.lower(): value.lower() for name, value in headers}
        assert (fields["upgrade"], fields["connection"]) == ("echo/1", "upgrade")
        assert connection.read_exactly(6) == b"hello "
        for text in (b"abc", b"x" * 300_000):
            connection.send(text)
            assert connection.read_exactly(len(text)) == text.upper()
        connection.finish_sending()
        assert connection.read_until_closed() == b""


def test_a_refused_upgrade_is_an_answer_like_any_other(plain: Plain) -> None:
    gateway, origin = plain
    origin.answer("/no-upgrade", Reply(403, [], b"no"))
    with Connection(gateway.address) as connection:
        answer = connection.request("GET", "/no-upgrade", {"connection": "upgrade", "upgrade": "echo/1"})
        assert (answer.status, answer.body) == (403, b"no")
        assert connection.request("GET", "/after").status == 200


def test_services_take_their_endpoints_in_turn(start: Start) -> None:
    with Origin() as one, Origin() as two:
        services: list[Config] = [
            {
                "name": "both",
                "service_type": "http",
                "endpoints": [{"ip": server.address[0], "port": server.address[1]} for server in (one, two)],
            }
        ]
        paths = [{"path": "/{*rest}", "service": {"name": "both"}}]
        gateway = start(paths, services=services)
        for _ in range(10):
            assert fetch(gateway.address, "GET", "/turn").status == 200
        eventually(lambda: len(one.received("/turn")) + len(two.received("/turn")) == 10, "all requests")
        assert len(one.received("/turn")) == len(two.received("/turn")) == 5
