"""How TLS connections end: with a word where all is well, without one where something is missing."""

from __future__ import annotations

import signal
import ssl

import pytest
from support.certificates import Authority
from support.client import Connection, Truncated, request_bytes
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess, Start

NAME = "end.test"


@pytest.fixture
def gateway(authority: Authority, start: Start) -> GatewayProcess:
    """A gateway that speaks TLS, with short time-outs."""
    limits = {"keepalive_timeout_ms": 300, "header_read_timeout_ms": 300}
    return start(http=[], https=["127.0.0.1:0"], tls=[authority.issue("end", NAME)], limits=limits)


def connect(gateway: GatewayProcess, authority: Authority) -> Connection:
    """A connection that checks all."""
    return Connection(gateway.tls_address, tls=authority.client(), server_name=NAME)


def ends_with_a_word(connection: Connection) -> bool:
    """Whether the other side said that it ends before it did (it would raise `SSLEOFError` if not)."""
    return connection.socket.recv(1) == b""


def test_a_client_that_wants_to_close_is_told_of_the_end(
    authority: Authority, gateway: GatewayProcess
) -> None:
    with connect(gateway, authority) as connection:
        assert connection.request("GET", "/last", {"connection": "close"}).status == 200
        assert ends_with_a_word(connection)


def test_a_connection_that_idles_too_long_is_told_of_the_end(
    authority: Authority, gateway: GatewayProcess
) -> None:
    with connect(gateway, authority) as connection:
        assert connection.request("GET", "/idle").status == 200
        assert ends_with_a_word(connection)


def test_a_head_that_takes_too_long_is_answered_over_tls(
    authority: Authority, gateway: GatewayProcess
) -> None:
    with connect(gateway, authority) as connection:
        connection.send(b"GET /slow HTTP/1.1\r\nhost: en")
        assert connection.read_answer().status == 408
        assert ends_with_a_word(connection)


def test_a_stop_lets_requests_finish_and_tells_of_the_end(
    authority: Authority, origin: Origin, start: Start
) -> None:
    gateway = start(http=[], https=["127.0.0.1:0"], tls=[authority.issue("stop", NAME)])
    with connect(gateway, authority) as busy, connect(gateway, authority) as idle:
        assert idle.request("GET", "/once").status == 200
        busy.send(request_bytes("GET", "/_gate/held"))
        origin.await_waiting("held")
        gateway.signal(signal.SIGTERM)
        assert ends_with_a_word(idle)
        origin.open_gate("held")
        assert busy.read_answer().status == 204
        assert ends_with_a_word(busy)
    assert gateway.wait() == 0


def test_a_body_that_breaks_off_never_looks_complete(
    authority: Authority, origin: Origin, gateway: GatewayProcess
) -> None:
    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbeginning")
        line.reset()

    origin.behave("/broken", behaviour)
    with connect(gateway, authority) as connection:
        connection.send(request_bytes("GET", "/broken"))
        with pytest.raises((Truncated, ssl.SSLEOFError)):
            connection.read_answer()


def test_large_bodies_pass_whole_both_ways(authority: Authority, origin: Origin, start: Start) -> None:
    gateway = start(http=[], https=["127.0.0.1:0"], tls=[authority.issue("large", NAME)])
    body = bytes(range(256)) * 20_000
    origin.behave("/large", lambda _, request: Reply(body=request.body))
    with connect(gateway, authority) as connection:
        for _ in range(2):
            assert connection.request("POST", "/large", {}, body).body == body
