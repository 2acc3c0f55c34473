"""Response bodies through filters: whole and by chunk, always one well-formed message."""

from __future__ import annotations

import contextlib

import pytest
from routes import MAX_BODY
from suite import Case
from support.client import Connection, Truncated, request_bytes
from support.origin import Line, Received, Reply

LARGE = b"abcdefgh" * 25_600  # 200 KiB


def send_body(case: Case, route: str, body: bytes, framing: str) -> None:
    """Let the origin answer with `body` in this framing."""
    fields = {
        "length": [],
        "chunked": [("transfer-encoding", "chunked")],
        "close": [("connection", "close")],
    }[framing]

    def behaviour(line: Line, request: Received) -> Reply | None:
        if framing == "length":
            return Reply(200, fields, body)
        if framing == "chunked":
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return Reply(200, fields, chunk + b"0\r\n\r\n")
        line.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
        return None

    case.origin.behave(case.path(route), behaviour)


def send_in_two(case: Case, route: str, first: bytes, second: bytes) -> None:
    """Let the origin send `second` only once the test has opened the gate."""

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(first), first))
        case.origin.pass_gate(case.key)
        line.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(second), second))

    case.origin.behave(case.path(route), behaviour)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("body", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_whole_body_filter_gets_all_and_the_length_is_put_right(
    case: Case, body: bytes, framing: str
) -> None:
    send_body(case, "whole", body, framing)
    answer = case.get("whole")
    assert answer.body == body.upper() + b"!"
    assert answer.header("content-length") == str(len(body) + 1)
    assert answer.all("transfer-encoding") == []
    assert answer.header("x-whole") == "1"


def test_a_filter_that_changes_nothing_changes_nothing(case: Case) -> None:
    case.origin.answer(case.path("whole-untouched"), Reply(200, [("content-type", "a/b")], LARGE))
    answer = case.get("whole-untouched")
    assert (answer.body, answer.header("content-type")) == (LARGE, "a/b")
    assert answer.header("content-length") == str(len(LARGE))


def test_a_body_may_be_emptied(case: Case) -> None:
    answer = case.get("whole-emptied")
    assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "0")


@pytest.mark.parametrize("route", ["whole", "by-chunk", "touch"])
def test_an_answer_to_head_passes_without_a_body(case: Case, route: str) -> None:
    case.origin.answer(case.path(route), Reply(200, [("content-length", "1234")]))
    with Connection(case.address) as connection:
        answer = connection.request("HEAD", case.path(route))
        assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "1234")
        assert connection.request("GET", case.path("open")).status == 200


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("route", ["whole", "by-chunk", "touch", "replace-response-body"])
def test_answers_that_have_no_body_get_none(case: Case, route: str, status: int) -> None:
    case.origin.answer(case.path(route), Reply(status, [("etag", '"x"')]))
    with Connection(case.address) as connection:
        answer = connection.request("GET", case.path(route))
        assert (answer.status, answer.body, answer.header("etag")) == (status, b"", '"x"')
        assert answer.all("transfer-encoding") == []
        assert connection.request("GET", case.path("open")).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_the_limit_is_no_body_for_a_whole_body_filter(case: Case, framing: str) -> None:
    send_body(case, "whole", b"x" * (MAX_BODY + 1), framing)
    answer = case.get("whole")
    assert answer.status == 502
    assert answer.json()["error"] == "the upstream's response is too large"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_the_limit_passes_unfiltered_where_the_policy_says_so(case: Case, framing: str) -> None:
    body = b"x" * (MAX_BODY + 1)
    send_body(case, "whole-continue", body, framing)
    answer = case.get("whole-continue")
    assert (answer.status, answer.body) == (200, body)
    assert answer.header("x-whole") is None


@pytest.mark.parametrize("route", ["by-chunk", "touch"])
def test_a_body_by_chunk_or_unfiltered_has_no_limit(case: Case, route: str) -> None:
    body = b"abcdefgh" * 150_000
    case.origin.answer(case.path(route), Reply(200, [], body))
    answer = case.get(route)
    assert answer.body == (body.upper() + b"!" if route == "by-chunk" else body)


def test_chunks_reach_the_client_as_they_come(case: Case) -> None:
    send_in_two(case, "by-chunk", b"one", b"two")
    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path("by-chunk")))
        status, _, _, headers = connection.read_head()
        assert status == 200
        assert ("transfer-encoding", "chunked") in headers
        assert connection.read_chunk() == b"ONE"
        case.origin.open_gate(case.key)
        rest = b""
        while chunk := connection.read_chunk():
            rest += chunk
        assert rest == b"TWO!"


def test_an_empty_body_is_one_last_chunk(case: Case) -> None:
    case.origin.answer(case.path("by-chunk"), Reply(200))
    assert case.get("by-chunk").body == b"!"


def test_a_filter_by_chunk_sees_each_byte_once(case: Case) -> None:
    case.origin.answer(case.path("by-chunk-counting"), Reply(200, [], LARGE))
    assert case.get("by-chunk-counting").body == LARGE
    (chunks,) = case.told()
    assert sum(chunks) == len(LARGE)


def test_swallowed_chunks_leave_an_empty_body(case: Case) -> None:
    answer = case.get("by-chunk-swallow")
    assert (answer.status, answer.body) == (200, b"")


def test_a_raise_in_mid_body_aborts_so_that_it_never_looks_complete(case: Case) -> None:
    send_in_two(case, "by-chunk-raise", b"good", b"bad")
    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path("by-chunk-raise")))
        connection.read_head()
        assert connection.read_chunk() == b"good"
        case.origin.open_gate(case.key)
        with pytest.raises(Truncated):
            while connection.read_chunk():
                pass


def test_a_raise_in_mid_body_may_be_passed_over(case: Case) -> None:
    send_in_two(case, "by-chunk-raise-continue", b"good", b"bad")
    case.origin.open_gate(case.key)
    assert case.get("by-chunk-raise-continue").body == b"goodbad"


def test_whole_and_by_chunk_filters_work_in_one_chain(case: Case) -> None:
    case.origin.answer(case.path("whole-and-by-chunk"), Reply(200, [], b"body"))
    assert case.get("whole-and-by-chunk").body == b"BODY!!"


def test_errors_of_the_gateway_pass_through_the_filters(case: Case) -> None:
    answer = case.get("refusing")
    assert answer.status == 502
    assert answer.body.startswith(b'{"ERROR":"')
    assert answer.body.endswith(b"!")


def test_an_origin_that_breaks_off_a_filtered_body_is_502(case: Case) -> None:
    """The head was not sent yet, so the client can still be told."""

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")

    case.origin.behave(case.path("whole"), behaviour)
    answer = case.get("whole")
    assert answer.status == 502
    assert b"only this" not in answer.body.lower()


def test_an_origin_that_breaks_off_a_body_by_chunk_aborts(case: Case) -> None:
    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")

    case.origin.behave(case.path("by-chunk"), behaviour)
    with pytest.raises(Truncated) as caught, contextlib.suppress(AssertionError):
        case.get("by-chunk")
    assert b"!" not in caught.value.received
