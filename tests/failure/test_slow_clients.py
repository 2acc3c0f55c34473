"""Clients that dribble, stall or never read cost a bounded time and a bounded amount of memory."""

from __future__ import annotations

import contextlib

from support.client import Connection, Truncated, fetch, request_bytes
from support.origin import Line, Origin, Received
from support.processes import Start
from support.waiting import eventually

MANY = 256 * 1024 * 1024
BOUND = 64 * 1024 * 1024


def dribble(connection: Connection, text: bytes) -> bytes:
    """Send a byte whenever nothing came for a while, until the other side ends it; what it said."""
    connection.socket.settimeout(0.02)
    for number in range(len(text)):
        with contextlib.suppress(TimeoutError):
            data = connection.socket.recv(65536)
            return data + connection.read_until_closed() if data else b""
        try:
            connection.send(text[number : number + 1])
        except (BrokenPipeError, ConnectionResetError):
            return b""
    raise AssertionError("all of it was taken")


def test_a_dribbled_head_is_answered_408_in_time(origin: Origin, start: Start) -> None:
    gateway = start(limits={"header_read_timeout_ms": 300})
    with Connection(gateway.address) as connection:
        said = dribble(connection, b"GET /dribbled HTTP/1.1\r\nhost: localhost\r\nx-a: " + b"x" * 4000)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in said
    assert b'"error":"the request head took too long"' in said
    assert origin.requests == []


def test_a_silent_client_is_cut_off_in_time(start: Start) -> None:
    gateway = start(limits={"header_read_timeout_ms": 300})
    with Connection(gateway.address) as connection:
        assert connection.read_until_closed() == b""


def test_a_body_that_stalls_is_cut_off_in_time(origin: Origin, start: Start) -> None:
    gateway = start(limits={"body_read_timeout_ms": 300})
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("POST", "/stalled", {"content-length": "100"}) + b"first")
        assert connection.read_until_closed()[:10] in (b"", b"HTTP/1.1 4")
    (request,) = origin.received("/stalled")
    assert not request.complete


def test_a_client_that_never_reads_is_cut_off_in_time_and_memory(origin: Origin, start: Start) -> None:
    ended: list[bool] = []

    def behaviour(line: Line, request: Received) -> None:
        try:
            line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MANY)
            line.send(b"x" * MANY)
        finally:
            ended.append(True)

    origin.behave("/unread", behaviour)
    gateway = start(limits={"write_timeout_ms": 500})
    before = gateway.memory
    with Connection(gateway.address, receive_buffer=65536) as connection:
        connection.send(request_bytes("GET", "/unread"))
        eventually(lambda: ended, "the end of the upstream's connection", within=20)
        assert gateway.memory - before < BOUND
        try:
            connection.read_answer()
        except Truncated:
            return
    raise AssertionError("the client got all of it")


def test_many_idle_clients_stop_nobody(start: Start) -> None:
    gateway = start()
    with contextlib.ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(Connection(gateway.address))
            if number % 2:
                connection.send(b"GET /never HTTP/1.1\r\nhost: localho")
        assert fetch(gateway.address, "GET", "/fine").status == 200
