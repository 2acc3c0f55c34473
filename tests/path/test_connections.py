"""Connections kept, reused and given up, on both sides."""

from __future__ import annotations

import threading

import pytest
from support.client import Connection, Truncated, fetch, request_bytes
from support.configs import http_service
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess, Start
from support.waiting import eventually

Plain = tuple[GatewayProcess, Origin]


def test_a_clients_connection_serves_request_after_request(plain: Plain) -> None:
    gateway, _ = plain
    with Connection(gateway.address) as connection:
        for number in range(20):
            answer = connection.request("POST", f"/again-{number}", {}, b"x" * number)
            assert answer.json()["body_size"] == number


def test_pipelined_requests_are_answered_in_order(plain: Plain) -> None:
    gateway, _ = plain
    with Connection(gateway.address) as connection:
        connection.send(b"".join(request_bytes("GET", f"/pipeline-{number}") for number in range(5)))
        targets = [connection.read_answer().json()["target"] for _ in range(5)]
    assert targets == [f"/pipeline-{number}" for number in range(5)]


def test_a_client_that_wants_to_close_is_closed(plain: Plain) -> None:
    gateway, _ = plain
    with Connection(gateway.address) as connection:
        answer = connection.request("GET", "/close", {"connection": "close"})
        assert answer.status == 200
        assert connection.read_until_closed() == b""


def test_upstream_connections_are_kept_and_reused(plain: Plain) -> None:
    gateway, origin = plain
    before = origin.connections
    for _ in range(10):
        assert fetch(gateway.address, "GET", "/reused").status == 200
    assert origin.connections - before <= 1
    assert len({request.connection for request in origin.received("/reused")}) == 1


def test_an_upstream_that_wants_to_close_is_not_reused(plain: Plain) -> None:
    gateway, origin = plain
    origin.answer("/closing", Reply(200, [("connection", "close")], b"body"))
    for _ in range(5):
        assert fetch(gateway.address, "GET", "/closing").body == b"body"
    assert len({request.connection for request in origin.received("/closing")}) == 5


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_pooled_connection_that_turns_out_dead_is_retried(
    origin: Origin, start: Start, method: str
) -> None:
    """The origin drops idle connections without a word, at the very moment of the next request."""
    gateway = start()

    def once(line: Line, request: Received) -> Reply | None:
        # The second request on a connection is met by a reset.
        same = [other for other in origin.received("/stale") if other.connection == line.number]
        if len(same) > 1:
            line.reset()
            return None
        return Reply(200, [], b"alive")

    origin.behave("/stale", once)
    for _ in range(20):
        assert fetch(gateway.address, method, "/stale").status == 200


def test_a_request_with_a_body_is_never_sent_twice(origin: Origin, start: Start) -> None:
    gateway = start()

    def once(line: Line, request: Received) -> Reply | None:
        same = [other for other in origin.received("/once") if other.connection == line.number]
        if len(same) > 1:
            line.reset()
            return None
        return Reply(200, [], b"alive")

    origin.behave("/once", once)
    assert fetch(gateway.address, "POST", "/once", {}, b"1").status == 200
    answer = fetch(gateway.address, "POST", "/once", {}, b"2")
    assert answer.status == 502
    assert [request.body for request in origin.received("/once")] == [b"1", b"2"]


def test_an_idle_client_connection_is_closed_in_time(start: Start) -> None:
    gateway = start(limits={"keepalive_timeout_ms": 200})
    with Connection(gateway.address) as connection:
        assert connection.request("GET", "/").status == 200
        assert connection.read_until_closed() == b""


def test_more_connections_than_allowed_wait_their_turn(start: Start) -> None:
    gateway = start(limits={"max_connections": 2})
    with Connection(gateway.address) as one, Connection(gateway.address) as two:
        assert one.request("GET", "/one").status == 200
        assert two.request("GET", "/two").status == 200
        third = Connection(gateway.address)
        with third:
            third.send(request_bytes("GET", "/three"))
            third.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                third.read_answer()
            one.close()
            third.socket.settimeout(10)
            assert third.read_answer().status == 200


def test_a_client_that_leaves_takes_its_upstream_request_with_it(plain: Plain) -> None:
    gateway, origin = plain
    left = threading.Event()

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                line.send(b"4\r\nbody\r\n")
                line.socket.settimeout(0.05)
                if left.wait(0.01):
                    return
        finally:
            left.set()

    origin.behave("/leaving", behaviour)
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("GET", "/leaving"))
        connection.read_head()
        connection.reset()
    eventually(left.is_set, "the origin's connection ends")


def test_two_services_do_not_share_connections(origin: Origin, start: Start) -> None:
    with Origin() as other:
        paths = [
            {"path": "/one", "service": {"name": "origin"}},
            {"path": "/two", "service": {"name": "other"}},
        ]
        gateway = start(paths, services=[http_service("other", other.address)])
        for _ in range(3):
            assert fetch(gateway.address, "GET", "/one").status == 200
            assert fetch(gateway.address, "GET", "/two").status == 200
        assert len(origin.received("/one")) == len(other.received("/two")) == 3


def test_truncation_is_seen_by_the_tests_own_client(origin: Origin) -> None:
    """The tests above rest on it."""
    origin.behave(
        "/short", lambda line, request: line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")
    )
    with pytest.raises(Truncated):
        fetch(origin.address, "GET", "/short")
