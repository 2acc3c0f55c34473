"""Bodies pass as they come, both ways, and whoever is slow holds the other side back."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from support.client import Connection, chunked, request_bytes
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess
from support.waiting import eventually

Plain = tuple[GatewayProcess, Origin]

MANY = 256 * 1024 * 1024
"""More than all buffers between two ends can hold."""
BOUND = 64 * 1024 * 1024
"""More than they do hold, kernel's and ours together."""
PIECE = b"x" * 65536


def send_until_stuck(send: Callable[[bytes], int], size: int) -> int:
    """Send pieces until one is not taken within half a second, or `size` is reached; how much was taken."""
    sent = 0
    while sent < size:
        try:
            sent += send(PIECE)
        except TimeoutError:
            break
    return sent


def test_response_chunks_pass_as_they_come(plain: Plain) -> None:
    gateway, origin = plain

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        origin.pass_gate("response-chunks")
        line.send(b"3\r\ntwo\r\n0\r\n\r\n")

    origin.behave("/response-chunks", behaviour)
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("GET", "/response-chunks"))
        connection.read_head()
        assert connection.read_chunk() == b"one"
        origin.open_gate("response-chunks")
        assert connection.read_chunk() == b"two"
        assert connection.read_chunk() == b""


def test_request_chunks_pass_as_they_come(plain: Plain) -> None:
    gateway, origin = plain
    seen = threading.Event()

    def behaviour(line: Line, request: Received) -> Reply:
        assert line.read_line() == b"3"
        assert line.read_exactly(5) == b"one\r\n"
        seen.set()
        request.body = line.read_body(request)
        return Reply(200)

    origin.behave("/request-chunks", behaviour, read_body=False)
    with Connection(gateway.address) as connection:
        # So the next connection to the origin lives: one that it is just closing would cost a POST its answer.
        assert connection.request("GET", "/before").status == 200
        connection.send(
            request_bytes("POST", "/request-chunks", {"transfer-encoding": "chunked"}) + b"3\r\none\r\n"
        )
        assert seen.wait(10)
        connection.send(chunked(b"two"))
        assert connection.read_answer().status == 200
    assert origin.received("/request-chunks")[0].body == b"two"


def test_a_client_that_reads_nothing_holds_the_origin_back(plain: Plain) -> None:
    gateway, origin = plain
    taken: list[int] = []

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MANY)
        line.socket.settimeout(0.5)
        taken.append(send_until_stuck(line.socket.send, MANY))
        line.socket.settimeout(20)
        left = MANY - taken[0]
        while left:
            piece = PIECE[:left]
            line.send(piece)
            left -= len(piece)

    origin.behave("/unread", behaviour)
    before = gateway.memory
    with Connection(gateway.address, receive_buffer=65536) as connection:
        connection.send(request_bytes("GET", "/unread"))
        eventually(lambda: taken, "an origin that is held back", within=30)
        assert taken[0] < BOUND
        assert gateway.memory - before < BOUND
        connection.read_head()
        left = MANY
        while left:
            left -= len(connection.read_exactly(min(left, 1 << 20)))


def test_an_origin_that_reads_nothing_holds_the_client_back(plain: Plain) -> None:
    gateway, origin = plain
    total = hashlib.sha256()

    def behaviour(line: Line, request: Received) -> Reply:
        origin.pass_gate("unread-request")
        left = int(request.header("content-length") or 0)
        while left:
            data = line.read_some()
            total.update(data)
            left -= len(data)
        return Reply(200)

    origin.behave("/unread-request", behaviour, read_body=False)
    before = gateway.memory
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("POST", "/unread-request", {"content-length": str(MANY)}))
        connection.socket.settimeout(0.5)
        sent = send_until_stuck(connection.socket.send, MANY)
        assert sent < BOUND
        assert gateway.memory - before < BOUND
        connection.socket.settimeout(20)
        origin.open_gate("unread-request")
        while sent < MANY:
            piece = PIECE[: MANY - sent]
            connection.send(piece)
            sent += len(piece)
        assert connection.read_answer().status == 200
    assert total.hexdigest() == hashlib.sha256(b"x" * MANY).hexdigest()
