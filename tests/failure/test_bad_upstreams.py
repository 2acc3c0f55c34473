"""Upstreams that refuse, break off, stall or talk nonsense: a clear status, or an aborted connection, in time."""

from __future__ import annotations

import socket

import pytest
from support.client import Connection, Truncated, fetch, request_bytes
from support.configs import http_service, route
from support.origin import Line, Origin, Received
from support.processes import Start

QUICK = {"response_head_timeout_ms": 300, "upstream_read_timeout_ms": 300, "connect_timeout_ms": 300}


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_an_upstream_that_refuses_is_502(start: Start) -> None:
    gateway = start([route("/{*rest}", "gone")], services=[http_service("gone", ("127.0.0.1", free_port()))])
    answer = fetch(gateway.address, "GET", "/x")
    assert answer.status == 502
    assert set(answer.json()) == {"error", "status", "request_id"}
    assert answer.json()["request_id"] in gateway.log


def test_an_upstream_that_cannot_be_found_is_503_and_another_try_is_named(start: Start) -> None:
    service = {
        "name": "nobody",
        "service_type": "http",
        "endpoints": [{"ip": "no-such-host.invalid", "port": 80}],
    }
    gateway = start([route("/{*rest}", "nobody")], services=[service])
    answer = fetch(gateway.address, "GET", "/x")
    assert answer.status == 503 and int(answer.header("retry-after") or 0) >= 1
    assert "`no-such-host.invalid` does not resolve" in gateway.log


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"\x00\x01nonsense\r\n\r\n",
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a: " + b"x" * 2_000_000,
    ],
    ids=["nothing", "half-a-head", "nonsense", "bad-status", "bad-length", "bad-field", "endless-head"],
)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_an_upstream_that_breaks_off_before_its_head_is_whole_is_502(
    origin: Origin, start: Start, sent: bytes, end: str, method: str
) -> None:
    def behaviour(line: Line, request: Received) -> None:
        line.send(sent)
        if end == "reset":
            line.reset()

    origin.behave("/broken", behaviour)
    gateway = start()
    answer = fetch(gateway.address, method, "/broken", {}, b"body" if method == "POST" else None)
    assert answer.status == 502
    assert answer.json()["error"]


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
def test_an_upstream_that_breaks_off_in_its_body_aborts_the_client(
    origin: Origin, start: Start, framing: bytes, end: str
) -> None:
    def behaviour(line: Line, request: Received) -> None:
        part = b"only this" if b"length" in framing else b"9\r\nonly this\r\n"
        line.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + part)
        origin.pass_gate("head-seen")
        if end == "reset":
            line.reset()

    origin.behave("/broken", behaviour)
    gateway = start()
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("GET", "/broken"))
        assert connection.read_head()[0] == 200
        origin.open_gate("head-seen")
        rest = connection.read_until_closed()
    assert b"only this" in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert len(rest) < 100


def test_an_upstream_that_does_not_answer_in_time_is_504(origin: Origin, start: Start) -> None:
    origin.behave("/slow", lambda line, request: origin.pass_gate("slow"))
    gateway = start(limits=QUICK)
    answer = fetch(gateway.address, "GET", "/slow")
    assert answer.status == 504
    assert fetch(gateway.address, "GET", "/fine").status == 200


def test_an_upstream_that_stalls_in_its_body_aborts_the_client(origin: Origin, start: Start) -> None:
    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
        origin.pass_gate("stall")

    origin.behave("/stall", behaviour)
    gateway = start(limits=QUICK)
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("GET", "/stall"))
        with pytest.raises(Truncated) as caught:
            connection.read_answer()
    assert caught.value.received == b"only this"


def test_an_upstream_that_takes_no_connection_is_504(start: Start) -> None:
    """A listener with a full backlog neither accepts nor refuses."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            service = http_service("full", server.getsockname())
            gateway = start([route("/{*rest}", "full")], services=[service], limits=QUICK)
            assert fetch(gateway.address, "GET", "/x").status == 504
        finally:
            for client in waiting:
                client.close()


def test_a_services_own_times_come_before_the_limits(origin: Origin, start: Start) -> None:
    origin.behave("/slow", lambda line, request: origin.pass_gate("slow"))
    service = http_service("impatient", origin.address, response_head_timeout_ms=200)
    gateway = start([route("/{*rest}", "impatient")], services=[service])
    assert fetch(gateway.address, "GET", "/slow").status == 504
