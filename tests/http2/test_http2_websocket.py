"""A WebSocket over HTTP/2 (RFC 8441) reaches a service that knows nothing of HTTP/2, and ends there."""

from __future__ import annotations

import base64
import hashlib
import signal
from collections.abc import Iterator

import pytest
from support.certificates import Authority
from support.http2 import Http2Connection, Stream
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess, Start
from support.waiting import eventually

Plain = tuple[GatewayProcess, Origin]
Secure = tuple[GatewayProcess, Origin, Authority]
ENABLE_CONNECT_PROTOCOL = 8
VERSION = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]


def accept(request: Received, proof: str | None = None) -> bytes:
    key = request.header("sec-websocket-key") or ""
    assert len(base64.b64decode(key)) == 16
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    value = base64.b64encode(digest).decode() if proof is None else proof
    return (
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n"
        f"sec-websocket-protocol: chat\r\nsec-websocket-accept: {value}\r\n\r\n"
    ).encode()


def echo(line: Line, request: Received) -> None:
    assert (request.header("upgrade"), request.header("connection")) == ("websocket", "upgrade")
    line.send(accept(request) + b"hello ")
    while True:
        line.send(line.read_some().upper())


def connect(connection: Http2Connection, path: str, protocol: str = "websocket") -> tuple[int, Stream]:
    """Asks for a WebSocket, and waits for the answer."""
    number = connection.begin("CONNECT", path, [(":protocol", protocol), *VERSION], end=False)
    stream = connection.streams[number]
    connection.until(lambda: stream.status is not None or stream.reset is not None)
    return number, stream


@pytest.fixture(params=["plain", "tls"])
def echoing(
    request: pytest.FixtureRequest, plain: Plain, secure: Secure
) -> Iterator[tuple[Http2Connection, Origin]]:
    gateway, origin = plain if request.param == "plain" else secure[:2]
    origin.behave("/ws", echo)
    tls = None if request.param == "plain" else secure[2].client("h2")
    with Http2Connection(gateway.address, tls=tls) as connection:
        yield connection, origin


def test_a_websocket_passes_and_then_every_byte_does(echoing: tuple[Http2Connection, Origin]) -> None:
    connection, origin = echoing
    number, stream = connect(connection, "/ws?room=1")
    assert connection.h2.remote_settings[ENABLE_CONNECT_PROTOCOL] == 1
    assert stream.status == 200
    fields = dict(stream.headers)
    assert fields["sec-websocket-protocol"] == "chat"
    assert not fields.keys() & {"upgrade", "connection", "sec-websocket-accept"}
    connection.until(lambda: bytes(stream.body) == b"hello ")
    text = b"x" * 300_000
    connection.send_body(number, text, end=False)
    connection.until(lambda: len(stream.body) >= len(text) + 6)
    assert bytes(stream.body[6:]) == text.upper()
    # Others are served beside it.
    assert connection.request("GET", "/beside").status == 200
    connection.send_body(number, b"")
    connection.until(lambda: stream.ended or stream.reset is not None)
    assert stream.ended
    (seen,) = origin.received("/ws")[-1:]
    assert (seen.method, seen.target, seen.version) == ("GET", "/ws?room=1", "HTTP/1.1")


def test_thousands_of_small_messages_are_no_flood(plain: Plain) -> None:
    gateway, origin = plain
    origin.behave("/ws", echo)
    with Http2Connection(gateway.address) as connection:
        number, stream = connect(connection, "/ws")
        for count in range(1, 4001):
            # Some clients open both windows again for each message.
            connection.h2.increment_flow_control_window(1)
            connection.h2.increment_flow_control_window(1, number)
            connection.send_body(number, b"abc", end=False)
            connection.until(lambda count=count: len(stream.body) >= 6 + 3 * count)
        assert bytes(stream.body) == b"hello " + b"ABC" * 4000
        assert connection.goaway == []


@pytest.mark.parametrize(
    ("reply", "status"),
    [(Reply(403, [], b"no"), 403), (Reply(200, [], b"a page"), 501), (Reply(204), 501)],
    ids=["refused", "a page", "nothing"],
)
def test_what_is_no_websocket_does_not_open_one(plain: Plain, reply: Reply, status: int) -> None:
    gateway, origin = plain
    origin.answer("/declined", reply)
    with Http2Connection(gateway.address) as connection:
        _, stream = connect(connection, "/declined")
        assert stream.status == status
        connection.until(lambda: stream.ended or stream.reset is not None)
        assert connection.request("GET", "/after").status == 200


def test_a_service_that_does_not_prove_its_handshake_is_not_believed(plain: Plain) -> None:
    gateway, origin = plain
    origin.behave(
        "/unproved", lambda line, request: line.send(accept(request, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="))
    )
    with Http2Connection(gateway.address) as connection:
        _, stream = connect(connection, "/unproved")
        assert stream.status == 502


def test_other_protocols_and_a_bare_connect_are_refused(plain: Plain) -> None:
    gateway, origin = plain
    before = len(origin.requests)
    with Http2Connection(gateway.address) as connection:
        _, stream = connect(connection, "/ws", "connect-udp")
        assert stream.status == 501
        bare = connection.streams[connection.begin("CONNECT", "/ws", end=False)]
        connection.until(lambda: bare.status is not None or bare.reset is not None)
        assert bare.reset == 1  # PROTOCOL_ERROR: it has a path
    assert len(origin.requests) == before


def test_a_client_that_leaves_ends_the_connection_of_its_service(plain: Plain) -> None:
    gateway, origin = plain
    ended: list[str] = []

    def watch(line: Line, request: Received) -> None:
        line.send(accept(request))
        try:
            line.read_some()
        finally:
            ended.append(request.path)

    origin.behave("/left", watch)
    with Http2Connection(gateway.address) as connection:
        number, stream = connect(connection, "/left")
        assert stream.status == 200
        connection.cancel(number)
        connection.flush()
        eventually(lambda: ended == ["/left"], "its service is told")
        assert connection.request("GET", "/after").status == 200


def test_a_silent_websocket_is_closed_in_time(start: Start, origin: Origin) -> None:
    gateway = start(limits={"upstream_read_timeout_ms": 300})
    origin.behave("/ws", echo)
    with Http2Connection(gateway.address) as connection:
        _, stream = connect(connection, "/ws")
        connection.until(lambda: stream.ended or stream.reset is not None)
        assert stream.status == 200
        assert bytes(stream.body) == b"hello "
        assert connection.request("GET", "/after").status == 200


def test_a_stop_leaves_a_websocket_its_grace(start: Start, origin: Origin) -> None:
    gateway = start()
    origin.behave("/ws", echo)
    with Http2Connection(gateway.address) as connection:
        number, stream = connect(connection, "/ws")
        gateway.signal(signal.SIGTERM)
        connection.until(lambda: bool(connection.goaway))
        connection.send_body(number, b"still", end=False)
        connection.until(lambda: bytes(stream.body) == b"hello STILL")
        connection.send_body(number, b"")
        connection.await_end()
        assert stream.ended
    assert gateway.wait() == 0
