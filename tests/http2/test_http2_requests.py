"""What holds for a request over HTTP/1 holds for one over HTTP/2, and what only HTTP/2 has is refused or put right."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from support.client import Connection, fetch
from support.http2 import PREFACE, Http2Connection, Reset
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess, Start
from support.waiting import eventually

Plain = tuple[GatewayProcess, Origin]


def test_a_request_arrives_as_one_of_http1(plain: Plain) -> None:
    gateway, origin = plain
    with Http2Connection(gateway.address) as connection:
        answer = connection.request("GET", "/a/../b?c=d", {"x-a": "1"}, authority="example.test:81")
    assert answer.status == 200
    (request,) = origin.received("/b")
    assert request.target == "/b?c=d"
    assert request.version == "HTTP/1.1"
    assert request.header("host") == "example.test:81"
    assert request.header("x-a") == "1"
    assert request.header("x-forwarded-for") == "127.0.0.1"
    assert request.header("x-forwarded-proto") == "http"
    assert request.header("x-forwarded-host") == "example.test:81"
    assert request.header("via") == "2 nylon"


def test_bodies_go_both_ways_whole(plain: Plain) -> None:
    gateway, origin = plain
    body = bytes(range(256)) * 4096
    with Http2Connection(gateway.address) as connection:
        answer = connection.request("POST", "/bodies", {"content-length": str(len(body))}, body)
        assert answer.json()["body_size"] == len(body)
        (request,) = origin.received("/bodies")
        assert request.body == body
        assert not request.chunked
        origin.answer("/long", Reply(200, [], body * 4))
        assert connection.request("GET", "/long").body == body * 4


def test_a_body_without_a_length_is_forwarded_in_chunks(plain: Plain) -> None:
    gateway, origin = plain
    with Http2Connection(gateway.address) as connection:
        assert connection.request("POST", "/unmeasured", body=b"some").status == 200
        assert connection.request("GET", "/unmeasured", body=b"of a GET").status == 200
        assert connection.request("POST", "/unmeasured", {"content-length": "0"}).status == 200
    post, get, empty = origin.received("/unmeasured")
    assert post.chunked
    assert post.body == b"some"
    assert get.body == b"of a GET"
    assert empty.header("content-length") == "0"


def test_many_requests_share_a_connection_and_none_waits_for_another(plain: Plain) -> None:
    gateway, origin = plain
    origin.behave("/held", lambda line, request: (origin.pass_gate("held"), Reply(200, [], b"held"))[1])
    with Http2Connection(gateway.address) as connection:
        held = connection.begin("GET", "/held")
        streams = [connection.begin("GET", f"/shared-{number}") for number in range(50)]
        targets = [connection.answer(stream).json()["target"] for stream in streams]
        assert targets == [f"/shared-{number}" for number in range(50)]
        assert not connection.streams[held].ended
        origin.open_gate("held")
        assert connection.answer(held).body == b"held"


def test_cookies_that_came_apart_are_one_field(plain: Plain) -> None:
    gateway, origin = plain
    fields = [("cookie", "a=1"), ("x-b", "2"), ("cookie", "c=3"), ("cookie", "d=4")]
    with Http2Connection(gateway.address) as connection:
        assert connection.request("GET", "/cookies", fields).status == 200
    (request,) = origin.received("/cookies")
    assert request.header("cookie") == "a=1; c=3; d=4"


def test_what_a_response_says_of_its_connection_stays_behind(plain: Plain) -> None:
    gateway, origin = plain
    fields = [
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("x-end", "2"),
    ]
    origin.answer("/hops", Reply(200, fields, b"2\r\nok\r\n0\r\n\r\n"))
    with Http2Connection(gateway.address) as connection:
        answer = connection.request("GET", "/hops")
        assert {name for name, _ in answer.headers} == {"x-end", "date"}
        assert answer.body == b"ok"
        assert connection.request("GET", "/after").status == 200


def test_a_head_request_and_an_empty_response_have_no_body(plain: Plain) -> None:
    gateway, origin = plain
    origin.answer("/nothing", Reply(204))
    origin.answer("/something", Reply(200, [], b"something"))
    with Http2Connection(gateway.address) as connection:
        assert connection.request("GET", "/nothing").status == 204
        answer = connection.request("HEAD", "/something")
    assert (answer.header("content-length"), answer.body) == ("9", b"")


@pytest.mark.parametrize(
    ("method", "path", "fields", "authority", "status", "text"),
    [
        ("GET", "/", {"host": "other.test"}, "localhost", 400, "host and :authority differ"),
        ("GET", "/", {}, None, 400, "no host"),
        ("GET", "/", {}, "user@localhost", 400, "invalid host"),
        ("GET", "/%zz", {}, "localhost", 400, "invalid path"),
        ("GET", "/a%2f..%2fb", {}, "localhost", 400, "invalid path"),
        ("GET", "/", {"x-a": " padded"}, "localhost", 400, "a field begins or ends with a blank"),
        ("GET", "/", {"expect": "the-unexpected"}, "localhost", 417, "unknown expectation"),
        ("GET", "/", {f"x-{number}": "1" for number in range(101)}, "localhost", 431, "too many fields"),
    ],
)
def test_a_bad_request_is_refused_and_the_connection_goes_on(
    plain: Plain,
    method: str,
    path: str,
    fields: dict[str, str],
    authority: str | None,
    status: int,
    text: str,
) -> None:
    gateway, origin = plain
    before = len(origin.requests)
    with Http2Connection(gateway.address) as connection:
        answer = connection.request(method, path, fields, authority=authority)
        assert (answer.status, answer.json()["error"]) == (status, text)
        assert len(answer.json()["request_id"]) == 32
        assert answer.header("connection") is None
        assert len(origin.requests) == before
        assert connection.request("GET", "/good").status == 200


@pytest.mark.parametrize(
    "fields",
    [
        [("connection", "close")],
        [("keep-alive", "1")],
        [("proxy-connection", "close")],
        [("transfer-encoding", "chunked")],
        [("upgrade", "websocket")],
        [("te", "gzip")],
        [("content-length", "1"), ("content-length", "2")],
        [("content-length", "1, 1")],
        [(":path", "/other")],
    ],
    ids=lambda fields: fields[0][0],
)
def test_a_malformed_request_is_reset_before_anyone_sees_it(plain: Plain, fields: Any) -> None:
    gateway, origin = plain
    before = len(origin.requests)
    with Http2Connection(gateway.address) as connection:
        with pytest.raises(Reset) as reset:
            connection.request("POST", "/malformed", fields, b"")
        assert reset.value.code == 1  # PROTOCOL_ERROR
        assert connection.request("GET", "/good").status == 200
    assert len(origin.requests) == before + 1


def test_a_route_is_found_by_authority_and_method(origin: Origin, start: Start) -> None:
    gateway = start([{"path": "/only", "methods": ["PUT", "POST"], "service": {"name": "origin"}}])
    with Http2Connection(gateway.address) as connection:
        answer = connection.request("GET", "/only")
        assert (answer.status, answer.header("allow")) == (405, "PUT, POST")
        assert connection.request("GET", "/other").status == 404
        assert connection.request("PUT", "/only").status == 200


def test_a_response_that_breaks_off_never_looks_complete(plain: Plain) -> None:
    gateway, origin = plain
    origin.behave(
        "/short", lambda line, request: line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")
    )
    with Http2Connection(gateway.address) as connection:
        with pytest.raises(Reset) as reset:
            connection.request("GET", "/short")
        assert reset.value.code == 2  # INTERNAL_ERROR
        assert connection.request("GET", "/good").status == 200


def test_a_request_taken_back_takes_its_upstream_request_with_it(plain: Plain) -> None:
    gateway, origin = plain
    left = threading.Event()

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while not left.wait(0.01):
                line.send(b"4\r\nbody\r\n")
        finally:
            left.set()

    origin.behave("/leaving", behaviour)
    with Http2Connection(gateway.address) as connection:
        stream = connection.begin("GET", "/leaving")
        connection.until(lambda: len(connection.streams[stream].body) > 0)
        connection.cancel(stream)
        eventually(left.is_set, "the origin's connection ends")
        assert connection.request("GET", "/still-here").status == 200


def test_both_versions_are_served_by_one_listener(plain: Plain) -> None:
    gateway, _ = plain
    with Http2Connection(gateway.address) as connection:
        assert connection.request("GET", "/two").status == 200
        assert fetch(gateway.address, "GET", "/one").status == 200


@pytest.mark.parametrize("size", [1, 3, 23])
def test_a_preface_in_pieces_is_a_preface(plain: Plain, size: int) -> None:
    gateway, _ = plain
    with Http2Connection(gateway.address) as connection, socket.create_connection(gateway.address) as pieces:
        pieces.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pieces.settimeout(10)
        for at in range(0, len(PREFACE), size):
            pieces.sendall(PREFACE[at : at + size])
            # Answered only after what came before was read, most likely.
            assert connection.request("GET", "/between").status == 200
        assert pieces.recv(9)[3] == 4, "SETTINGS come first"


@pytest.mark.parametrize("begun", [b"P", PREFACE[:23]])
def test_a_preface_that_stalls_is_answered_like_a_slow_head(start: Start, begun: bytes) -> None:
    gateway = start(limits={"header_read_timeout_ms": 300})
    with Connection(gateway.address) as connection:
        connection.send(begun)
        assert connection.read_until_closed().startswith(b"HTTP/1.1 4")


def test_a_request_that_begins_like_a_preface_is_served(plain: Plain) -> None:
    gateway, _ = plain
    for method in ["P", "PR", "PRI", "PRIZE"]:
        answer = fetch(gateway.address, method, "/method")
        assert answer.json()["method"] == method


def test_an_upgrade_to_http2_is_passed_over(plain: Plain) -> None:
    gateway, origin = plain
    for protocol in ["h2c", "websocket, H2C"]:
        fields = {"connection": "upgrade, http2-settings", "upgrade": protocol, "http2-settings": "AAMAAABk"}
        assert fetch(gateway.address, "GET", "/upgrade", fields).status == 200
    for request in origin.received("/upgrade"):
        names = {name.lower() for name, _ in request.headers}
        assert not names & {"connection", "upgrade", "http2-settings"}


def test_the_trailers_of_a_response_pass_but_for_what_is_of_its_connection(plain: Plain) -> None:
    gateway, origin = plain
    origin.behave(
        "/trailers",
        lambda line, request: line.send(
            b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n"
            b"4\r\nbody\r\n0\r\nx-sum: 7\r\nkeep-alive: 5\r\nconnection: close\r\n\r\n"
        ),
    )
    with Http2Connection(gateway.address) as connection:
        stream = connection.begin("GET", "/trailers")
        assert connection.answer(stream).body == b"body"
        assert connection.streams[stream].trailers == [("x-sum", "7")]
