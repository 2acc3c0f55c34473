"""A client that floods is sent away with GOAWAY and the reason, at a bounded cost, while others are served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hpack import Encoder
from support.client import fetch
from support.http2 import (
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2Connection,
    frame,
)
from support.origin import Line, Origin, Received
from support.processes import GatewayProcess

Plain = tuple[GatewayProcess, Origin]
ENHANCE_YOUR_CALM = 11
BOUND = 32 * 1024 * 1024
END_STREAM, END_HEADERS = 1, 4
PIECES = 20_000
"""Far more than what any flood below takes to be seen."""


def head(path: str) -> list[tuple[str, str]]:
    """A request's head for a path that no other test uses."""
    return [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]


def unanswered(line: Line, request: Received) -> None:
    """Waits until the gateway gives up."""
    line.read_some()


@contextmanager
def served_meanwhile(gateway: GatewayProcess) -> Iterator[None]:
    """Others are served while the block runs, and its memory stays in bounds."""
    before = gateway.peak_memory
    done = threading.Event()
    statuses: list[int] = []

    def others() -> None:
        while True:
            statuses.append(fetch(gateway.address, "GET", "/others").status)
            with Http2Connection(gateway.address) as connection:
                statuses.append(connection.request("GET", "/others").status)
            if done.is_set():
                return

    thread = threading.Thread(target=others)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(30)
    assert set(statuses) == {200}
    assert gateway.peak_memory - before < BOUND


@pytest.mark.parametrize(
    "piece",
    [
        frame(PING, b"\0" * 8) * 100,
        frame(SETTINGS) * 100,
        frame(SETTINGS, b"\0\4\0\0\xff\xff" * 1000) * 10,
        frame(WINDOW_UPDATE, b"\0\0\0\1") * 100,
        frame(PRIORITY, b"\0\0\0\0\1", stream=1) * 100,
        frame(0xFA, b"whatever") * 100,
    ],
    ids=["pings", "settings", "long settings", "windows", "priorities", "unknown frames"],
)
def test_a_flood_of_frames_that_belong_to_no_message_is_ended(plain: Plain, piece: bytes) -> None:
    gateway, _ = plain
    with served_meanwhile(gateway), Http2Connection(gateway.address) as connection:
        codes = connection.flood(piece, PIECES)
        assert connection.closed
        assert codes == [ENHANCE_YOUR_CALM]


def test_requests_taken_back_at_once_end_the_connection(plain: Plain) -> None:
    """Rapid reset, CVE-2023-44487."""
    gateway, origin = plain
    origin.behave("/at-once", unanswered)
    encoder = Encoder()
    encoder.header_table_size = 0
    block = encoder.encode(head("/at-once"))
    pairs = (
        frame(HEADERS, block, flags=END_STREAM | END_HEADERS, stream=stream)
        + frame(RST_STREAM, b"\0\0\0\x08", stream=stream)
        for stream in range(1, 200_000, 2)
    )
    with served_meanwhile(gateway), Http2Connection(gateway.address) as connection:
        connection.ping()
        assert connection.flood(b"".join(next(pairs) for _ in range(500)), 1) == [ENHANCE_YOUR_CALM]
    assert len(origin.received("/at-once")) < 100


def test_requests_taken_back_one_by_one_end_the_connection(plain: Plain) -> None:
    """So slowly that each of them is looked at, which costs more than what is taken back at once."""
    gateway, origin = plain
    origin.behave("/one-by-one", unanswered)
    with served_meanwhile(gateway), Http2Connection(gateway.address) as connection:
        taken_back = 0
        while not (connection.goaway or connection.closed) and taken_back < 5_000:
            stream = connection.begin("GET", "/one-by-one")
            connection.ping()
            connection.cancel(stream)
            connection.ping()
            taken_back += 1
        assert connection.await_end() == [ENHANCE_YOUR_CALM]
        assert taken_back > 400


@pytest.mark.parametrize("payload", [b"", b"\0" * 16], ids=["empty", "fields that go on"])
def test_fields_that_never_end_end_the_connection(plain: Plain, payload: bytes) -> None:
    gateway, origin = plain
    block = Encoder().encode(head("/endless"))
    # A literal field without indexing, whose value is announced and never comes.
    piece = frame(CONTINUATION, payload or b"", stream=1) * 10
    with served_meanwhile(gateway), Http2Connection(gateway.address) as connection:
        connection.send(frame(HEADERS, block + b"\0\3x-a\x7f\xff\xff\x03", stream=1))
        assert connection.flood(piece, PIECES) == [ENHANCE_YOUR_CALM]
    assert not origin.received("/endless")


def test_a_field_repeated_by_its_number_is_no_way_around_the_limit(plain: Plain) -> None:
    """A header bomb: one byte for each field of 4,000."""
    gateway, origin = plain
    block = Encoder().encode([*head("/bomb"), ("x-bomb", "a" * 3900)])
    bomb = block + b"\xbe" * 12_000
    with served_meanwhile(gateway), Http2Connection(gateway.address) as connection:
        assert connection.flood(frame(HEADERS, bomb, flags=END_HEADERS | END_STREAM, stream=1), 1) == [
            ENHANCE_YOUR_CALM
        ]
    assert not origin.received("/bomb")


@pytest.mark.parametrize("data", [b"", b"x"], ids=["empty", "tiny"])
def test_data_in_endless_little_frames_ends_the_connection(plain: Plain, data: bytes) -> None:
    gateway, origin = plain
    origin.behave("/unread", lambda line, request: origin.pass_gate("unread"), read_body=False)
    try:
        with served_meanwhile(gateway), Http2Connection(gateway.address) as connection:
            # Eight at once: what the upstream's socket takes of one is no flood.
            streams = [connection.begin("POST", "/unread", end=False) for _ in range(8)]
            piece = b"".join(frame(DATA, data, stream=stream) for stream in streams) * 100
            assert connection.flood(piece, PIECES) == [ENHANCE_YOUR_CALM]
    finally:
        origin.open_gate("unread")


def test_an_honest_client_is_never_sent_away(plain: Plain) -> None:
    """It asks a lot, reads in small steps, looks after its connection and now and then changes its mind."""
    gateway, _ = plain
    with Http2Connection(gateway.address) as connection:
        for number in range(1200):
            stream = connection.begin("GET", "/honest")
            if number % 2 == 0:
                connection.cancel(stream)
            else:
                assert connection.answer(stream).status == 200
            connection.ping()
        assert connection.goaway == []
