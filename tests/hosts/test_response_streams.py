"""Responses that a handler writes while they are on their way: paced by the client, whole or visibly broken off."""

from __future__ import annotations

import time

import pytest
from entries.bodies import content
from suite import Case
from support.client import Answer, Connection, Truncated, request_bytes
from support.waiting import eventually

KIB, MIB = 1024, 1024 * 1024
WAYS = ("stream-blocking", "stream-awaited")
FOR_EVER = ("stream-for-ever", "stream-for-ever-awaited")
AHEAD = 8 * MIB
"""How far a handler may be ahead of a client: a window, one write, and what kernels keep for two sockets. One that is
not held back writes ten times as much in the time of these tests."""


@pytest.mark.parametrize("size", [0, 1, 128 * KIB, 256 * KIB + 1, 3 * MIB])
@pytest.mark.parametrize("route", [*WAYS, "stream-at-once"])
def test_what_is_written_arrives_in_order_and_whole(case: Case, route: str, size: int) -> None:
    answer = case.get(route, query=str(size))
    assert answer.body == content(size)
    assert answer.header("transfer-encoding") == "chunked"
    if route in WAYS:
        assert (answer.status, answer.header("x-mode")) == (201, route.removeprefix("stream-"))


def test_small_writes_arrive_and_the_gateway_frames_them(case: Case) -> None:
    answer = case.get("stream-small")
    assert (answer.status, answer.body) == (200, "caf\u00e9 au lait".encode())
    assert answer.all("content-length") == []


def test_what_is_written_arrives_before_the_handler_is_done(case: Case) -> None:
    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path("stream-at-gate")))
        assert connection.read_head()[0] == 200
        assert connection.read_chunk() == b"before"
        case.origin.open_gate(case.key)
        assert connection.read_chunk() == b"after"
        assert connection.read_chunk() == b""
        assert connection.request("GET", case.path("open")).status == 200


def test_a_stream_is_an_end_and_nothing_can_be_changed_after_it(case: Case) -> None:
    answer = case.get("stream-misused")
    assert answer.body == b"200 GET"
    assert answer.header("x-too-late") == "PhaseError"
    errors = ["DecisionError"] * 3 + ["PhaseError"] * 2 + ["BodyError"]
    assert case.told() == [errors]


def broken_off(case: Case, route: str, before: bytes = b"") -> None:
    """The connection ends inside the body, or inside the head where nothing was written before."""
    got = b""
    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path(route)))
        if before:
            connection.read_head()
            got = connection.read_chunk()
            case.origin.open_gate(case.key)
        with pytest.raises(Truncated):
            if not before:
                connection.read_head()
            while chunk := connection.read_chunk():
                got += chunk
        assert not before or got == before


def test_a_raise_in_the_middle_breaks_the_body_off(case: Case) -> None:
    broken_off(case, "stream-raise", b"good")
    eventually(lambda: "in the middle" in case.host.handlers_log, "the traceback in the handler's log")


@pytest.mark.parametrize("route", ["stream-raise-at-once", "stream-unended", "stream-idle"])
def test_a_stream_without_its_end_never_looks_complete(case: Case, route: str) -> None:
    """A raise before the first byte, a return without `end()`, silence for as long as `timeout_ms`."""
    broken_off(case, route)


def test_an_inline_handler_may_not_wait_for_room(case: Case) -> None:
    broken_off(case, "stream-inline-large")
    eventually(lambda: "handler must not wait" in case.host.handlers_log, "the reason in the log")


@pytest.mark.parametrize(("method", "query"), [("HEAD", ""), ("GET", "204"), ("GET", "304")])
def test_where_no_body_may_follow_the_first_writes_say_so(case: Case, method: str, query: str) -> None:
    target = case.path("stream-empty") + (f"?{query}" if query else "")
    with Connection(case.address) as connection:
        answer: Answer = connection.request(method, target)
        assert (answer.status, answer.body) == (int(query or 200), b"")
        assert connection.request("GET", case.path("open")).status == 200
    assert case.told() == ["nobody reads the response any more"]


@pytest.mark.parametrize("route", ["stream-whole", "stream-by-chunk", "stream-both"])
def test_filters_get_a_stream_like_any_response(case: Case, route: str) -> None:
    size = 200 * KIB
    answer = case.get(route, query=str(size))
    marks = {"stream-whole": b"!", "stream-by-chunk": b"!", "stream-both": b"!!"}
    assert answer.body == content(size).upper() + marks[route]
    assert answer.status == 201
    whole = route != "stream-by-chunk"
    assert (answer.header("content-length") is not None) == whole


def test_a_stream_over_the_limit_is_no_body_for_a_whole_body_filter(case: Case) -> None:
    answer = case.get("stream-whole", query=str(300 * KIB))
    assert (answer.status, answer.json()["error"]) == (502, "the upstream's response is too large")


def test_a_stream_that_breaks_off_in_front_of_a_whole_body_filter_is_an_error(case: Case) -> None:
    """The head was not sent yet, so the client can still be told."""
    case.origin.open_gate(case.key)
    answer = case.get("stream-raise-whole")
    assert answer.status == 500
    assert answer.json()["error"] == "plugin error"


def test_logging_sees_what_was_sent_and_the_state_of_the_beginning(case: Case) -> None:
    answer = case.get("stream-facts", query="250000")
    assert answer.header("x-state") == "request_filter"
    assert case.told() == [[200, 250_000, None, "request_filter"]]


def test_logging_sees_that_the_client_went_away(case: Case) -> None:
    with Connection(case.address, receive_buffer=8 * KIB) as connection:
        connection.send(request_bytes("GET", case.path("stream-facts") + f"?{64 * MIB}"))
        connection.read_head()
        connection.reset()
    ((status, sent, error, _),) = case.told()
    assert (status, error) == (200, "the client went away before the response was sent")
    assert sent < 64 * MIB


def progress(case: Case) -> int:
    return int(case.get("stream-progress").json())


@pytest.mark.parametrize("route", FOR_EVER)
def test_a_slow_client_holds_the_handler_back_and_one_that_leaves_ends_it(case: Case, route: str) -> None:
    with Connection(case.address, receive_buffer=64 * KIB) as connection:
        connection.send(request_bytes("GET", case.path(route)))
        connection.read_head()
        read = 0
        start = time.monotonic()
        while read < 100_000:  # 100 kB a second
            read += len(connection.read_chunk())
            time.sleep(max(0.0, read / 100_000 - (time.monotonic() - start)))
        held = progress(case)
        assert held <= read + AHEAD
        while read < 2 * AHEAD:
            read += len(connection.read_chunk())
        assert progress(case) > held, "it goes on with the client"
        connection.reset()
    ((error, written),) = case.told()
    assert error == "StreamClosed"
    assert written <= read + AHEAD
    assert "StreamClosed" not in case.host.handlers_log, "a client that leaves is no error of the handler"
