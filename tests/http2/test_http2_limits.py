"""The limits of a request hold for each stream, and those of a connection for the connection."""

from __future__ import annotations

import signal
import time

import pytest
from support.client import Connection
from support.configs import gateway_config
from support.http2 import CONTINUATION, HEADERS, PREFACE, SETTINGS, Http2Connection, Reset, frame
from support.origin import Gone, Line, Origin, Received, Reply
from support.processes import GatewayProcess, Start
from support.waiting import eventually

MANY = 256 * 1024 * 1024
BOUND = 64 * 1024 * 1024
CANCEL, REFUSED_STREAM, ENHANCE_YOUR_CALM = 8, 7, 11


def test_a_head_over_the_limit_is_answered_431_and_one_far_over_it_ends_the_connection(start: Start) -> None:
    gateway = start(limits={"max_header_bytes": 4096})
    with Http2Connection(gateway.address) as connection:
        assert connection.request("GET", "/", {"x-long": "a" * 3500}).status == 200
        assert connection.request("GET", "/", {"x-long": "a" * 5000}).status == 431
        assert connection.request("GET", "/").status == 200
        stream = connection.begin("GET", "/", {f"x-{number}": "a" * 2000 for number in range(12)})
        assert connection.await_end() == [ENHANCE_YOUR_CALM]
        assert connection.streams[stream].status is None


def test_a_body_over_the_limit_is_answered_413_and_the_connection_goes_on(start: Start) -> None:
    gateway = start(limits={"max_forwarded_body_bytes": 1000})
    with Http2Connection(gateway.address) as connection:
        for _ in range(2):
            answer = connection.request("POST", "/", {"content-length": "2000"}, b"a" * 2000)
            assert answer.status == 413
            assert connection.request("POST", "/", {}, b"a" * 2000).status == 413
            assert connection.request("POST", "/", {}, b"a" * 1000).status == 200


def test_a_body_that_stalls_is_answered_in_time_and_the_connection_goes_on(
    origin: Origin, start: Start
) -> None:
    gateway = start(limits={"body_read_timeout_ms": 300})
    with Http2Connection(gateway.address) as connection:
        stalled = connection.begin("POST", "/stalled", end=False)
        connection.send_body(stalled, b"first", end=False)
        assert connection.request("GET", "/meanwhile").status == 200
        assert connection.answer(stalled).status == 408
        assert connection.request("GET", "/after").status == 200
    (request,) = origin.received("/stalled")
    assert not request.complete


def test_bodies_that_nobody_reads_do_not_stop_the_others(origin: Origin, start: Start) -> None:
    gateway = start([{"path": "/taken", "service": {"name": "origin"}}])
    body = b"a" * 1_000_000
    with Http2Connection(gateway.address) as connection:
        for _ in range(10):
            stream = connection.begin("POST", "/nowhere", {"content-length": str(len(body))}, end=False)
            connection.send_body(stream, body)
            assert connection.answer(stream).status == 404
        answer = connection.request("POST", "/taken", {"content-length": str(len(body))}, body)
        assert answer.json()["body_size"] == len(body)


def test_an_upload_that_the_upstream_does_not_take_does_not_stop_the_others(
    origin: Origin, start: Start
) -> None:
    gateway = start()

    def behaviour(line: Line, request: Received) -> Reply:
        origin.pass_gate("untaken")
        line.read_body(request)
        return Reply(200)

    origin.behave("/untaken", behaviour, read_body=False)
    with Http2Connection(gateway.address) as connection:
        untaken = connection.begin("POST", "/untaken", end=False)
        origin.await_waiting("untaken")
        while (room := connection.h2.local_flow_control_window(untaken)) > 0:
            connection.send_body(untaken, b"a" * min(room, 65536), end=False)
            connection.ping()
        answer = connection.request("POST", "/others", body=b"b" * 500_000)
        assert answer.json()["body_size"] == 500_000
        origin.open_gate("untaken")
        connection.send_body(untaken, b"", end=True)
        assert connection.answer(untaken).status == 200


@pytest.mark.parametrize(
    "begun",
    [
        PREFACE,
        PREFACE + frame(SETTINGS) + frame(HEADERS, b"\x82", stream=1),
        PREFACE
        + frame(SETTINGS)
        + frame(HEADERS, b"\x82", stream=1)
        + frame(CONTINUATION, b"\x86", stream=1),
        PREFACE + frame(SETTINGS) + b"\0\0",
    ],
    ids=["no settings", "no end of the fields", "no end in the next frame", "a frame's beginning"],
)
def test_what_a_client_does_not_finish_ends_its_connection_in_time(start: Start, begun: bytes) -> None:
    gateway = start(limits={"header_read_timeout_ms": 300})
    with Connection(gateway.address) as connection:
        connection.send(begun)
        said = connection.read_until_closed()
    assert said.endswith(ENHANCE_YOUR_CALM.to_bytes(4, "big"))


def test_a_connection_with_nothing_to_do_is_closed_in_time(origin: Origin, start: Start) -> None:
    gateway = start(limits={"keepalive_timeout_ms": 700})
    origin.behave("/slow", lambda line, request: (time.sleep(1.5), Reply(200, [], b"slow"))[1])
    with Http2Connection(gateway.address) as connection:
        # Not while it has something to do.
        assert connection.request("GET", "/slow").body == b"slow"
        assert connection.goaway == []
        assert set(connection.await_end()) == {0}
    with Http2Connection(gateway.address) as connection:
        assert set(connection.await_end()) == {0}


def test_pings_do_not_keep_an_idle_connection(start: Start) -> None:
    gateway = start(limits={"keepalive_timeout_ms": 300})
    with Http2Connection(gateway.address) as connection:
        assert connection.request("GET", "/").status == 200
        until = time.monotonic() + 10
        while not connection.goaway and time.monotonic() < until:
            connection.ping()
            time.sleep(0.02)  # a flood of them would be another matter
        assert connection.goaway[0] == 0


def test_a_client_that_does_not_hear_that_it_is_to_go_is_closed_too(start: Start) -> None:
    gateway = start(limits={"keepalive_timeout_ms": 100})
    with Connection(gateway.address) as connection:
        # It never answers the ping that tells whether GOAWAY arrived.
        connection.send(PREFACE + frame(SETTINGS))
        assert connection.read_until_closed()


def test_a_client_that_opens_no_window_loses_the_stream_in_time(origin: Origin, start: Start) -> None:
    ended: list[bool] = []

    def behaviour(line: Line, request: Received) -> None:
        try:
            line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MANY)
            for _ in range(MANY // 65536):
                line.send(b"x" * 65536)
        finally:
            ended.append(True)

    origin.behave("/many", behaviour)
    origin.answer("/few", Reply(200, [], b"few"))
    gateway = start(limits={"write_timeout_ms": 500})
    before = gateway.peak_memory
    with Http2Connection(gateway.address, window=0) as connection:
        few = connection.begin("GET", "/few")
        many = connection.begin("GET", "/many")
        for stream in (few, many):
            with pytest.raises(Reset) as reset:
                connection.answer(stream)
            assert reset.value.code == CANCEL
        eventually(lambda: ended, "the origin's connection ends")
        taken = connection.begin("GET", "/few")
        connection.h2.increment_flow_control_window(1000, taken)
        connection.flush()
        assert connection.answer(taken).body == b"few"
    assert gateway.peak_memory - before < BOUND


def test_a_client_that_never_reads_loses_the_connection_in_time_and_memory(
    origin: Origin, start: Start
) -> None:
    ended: list[bool] = []

    def behaviour(line: Line, request: Received) -> None:
        try:
            line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MANY)
            for _ in range(MANY // 65536):
                line.send(b"x" * 65536)
        except Gone:
            ended.append(True)

    origin.behave("/many", behaviour)
    gateway = start(limits={"write_timeout_ms": 500})
    before = gateway.peak_memory
    with Http2Connection(gateway.address, window=2**31 - 1, receive_buffer=65536) as connection:
        connection.h2.increment_flow_control_window(2**30)
        for _ in range(20):
            connection.begin("GET", "/many")
        eventually(lambda: len(ended) == 20, "the origin's connections end", within=20)
    assert gateway.peak_memory - before < BOUND


def test_more_requests_at_once_than_allowed_are_refused(origin: Origin, start: Start) -> None:
    gateway = start(limits={"max_concurrent_streams": 2})
    origin.behave("/held", lambda line, request: (origin.pass_gate("held"), Reply(200))[1])
    with Http2Connection(gateway.address) as connection:
        held = [connection.begin("GET", "/held") for _ in range(2)]
        origin.await_waiting("held", 2)
        # h2 keeps the server's word by itself once it has read it.
        connection.h2.remote_settings.max_concurrent_streams = 10
        with pytest.raises(Reset) as reset:
            connection.request("GET", "/third")
        assert reset.value.code == REFUSED_STREAM
        origin.open_gate("held")
        assert [connection.answer(stream).status for stream in held] == [200, 200]
        assert connection.request("GET", "/third").status == 200


def test_a_stop_finishes_the_requests_in_flight(origin: Origin, start: Start) -> None:
    gateway = start()
    origin.behave("/held", lambda line, request: (origin.pass_gate("held"), Reply(200, [], b"held"))[1])
    with Http2Connection(gateway.address) as busy, Http2Connection(gateway.address) as idle:
        assert idle.request("GET", "/").status == 200
        held = busy.begin("GET", "/held")
        origin.await_waiting("held")
        gateway.signal(signal.SIGTERM)
        assert set(idle.await_end()) == {0}
        busy.until(lambda: len(busy.goaway) > 0)
        # What was on its way is served too.
        origin.open_gate("held")
        assert busy.answer(held).body == b"held"
        assert set(busy.await_end()) == {0}
        assert busy.last_stream == held
    assert gateway.wait() == 0


def test_a_listener_that_is_removed_finishes_the_requests_in_flight(origin: Origin, start: Start) -> None:
    gateway = start(http=["127.0.0.1:0", "127.0.0.2:0"])
    origin.behave("/held", lambda line, request: (origin.pass_gate("held"), Reply(200, [], b"held"))[1])
    with Http2Connection(gateway.address) as connection:
        held = connection.begin("GET", "/held")
        origin.await_waiting("held")
        gateway.reload(gateway_config(origin.address, http=["127.0.0.2:0"]))
        connection.until(lambda: len(connection.goaway) > 0)
        origin.open_gate("held")
        assert connection.answer(held).body == b"held"
        assert set(connection.await_end()) == {0}


def test_connections_over_the_limit_wait_their_turn(start: Start) -> None:
    gateway = start(limits={"max_connections": 1})
    with Http2Connection(gateway.address) as one:
        assert one.request("GET", "/one").status == 200
        with Http2Connection(gateway.address, timeout=0.3) as two:
            stream = two.begin("GET", "/two")
            with pytest.raises(TimeoutError):
                two.answer(stream)
            one.close()
            two.socket.settimeout(10)
            assert two.answer(stream).status == 200


def test_a_gateway_stops_although_its_clients_hold_on(origin: Origin) -> None:
    """A client that answers nothing: neither GOAWAY nor the ping behind it."""
    with GatewayProcess(gateway_config(origin.address)) as gateway, Connection(gateway.address) as connection:
        connection.send(PREFACE + frame(SETTINGS))
        assert connection.socket.recv(9)
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
