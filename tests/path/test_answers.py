"""The origin's own answers arrive unchanged, whatever their status and framing."""

from __future__ import annotations

import pytest
from support.client import Connection, Truncated, fetch, request_bytes
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess

Plain = tuple[GatewayProcess, Origin]


@pytest.mark.parametrize("status", [200, 201, 206, 301, 400, 404, 413, 418, 500, 502, 503, 504, 599])
def test_status_fields_and_body_arrive_unchanged(plain: Plain, status: int) -> None:
    gateway, origin = plain
    headers = [
        ("content-type", "text/x"),
        ("retry-after", "7"),
        ("location", "/there"),
        ("www-authenticate", "X"),
    ]
    origin.answer(f"/status-{status}", Reply(status, headers, b"its own body"))
    answer = fetch(gateway.address, "GET", f"/status-{status}")
    assert (answer.status, answer.body) == (status, b"its own body")
    for name, value in headers:
        assert answer.header(name) == value
    assert answer.header("content-length") == "12"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_stay_without_one(plain: Plain, status: int) -> None:
    gateway, origin = plain
    origin.answer(f"/bodyless-{status}", Reply(status, [("etag", '"x"')]))
    with Connection(gateway.address) as connection:
        answer = connection.request("GET", f"/bodyless-{status}")
        assert (answer.status, answer.header("etag"), answer.body) == (status, '"x"', b"")
        assert answer.all("transfer-encoding") == answer.all("content-length") == []
        assert connection.request("GET", "/after").status == 200


def test_an_answer_to_head_has_the_length_and_no_body(plain: Plain) -> None:
    gateway, origin = plain
    origin.answer("/head", Reply(200, [("content-length", "1234"), ("content-type", "text/x")]))
    with Connection(gateway.address) as connection:
        answer = connection.request("HEAD", "/head")
        assert (answer.status, answer.header("content-length"), answer.header("content-type")) == (
            200,
            "1234",
            "text/x",
        )
        assert connection.request("GET", "/after").status == 200
    assert origin.received("/head")[0].method == "HEAD"


@pytest.mark.parametrize("body", [b"", b"small", b"x" * 1_000_000], ids=["empty", "small", "large"])
def test_a_chunked_body_arrives_whole(plain: Plain, body: bytes) -> None:
    gateway, origin = plain
    wire = (
        b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part) + b"0\r\n\r\n"
    )
    origin.answer("/chunked", Reply(200, [("transfer-encoding", "chunked")], wire))
    assert fetch(gateway.address, "GET", "/chunked").body == body


def test_a_body_that_ends_with_its_connection_arrives_whole(plain: Plain) -> None:
    gateway, origin = plain

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)

    origin.behave("/until-close", behaviour)
    with Connection(gateway.address) as connection:
        assert connection.request("GET", "/until-close").body == b"x" * 100_000
        assert connection.request("GET", "/after").status == 200


def test_a_client_of_http_1_0_gets_no_chunks_and_a_closed_connection(plain: Plain) -> None:
    gateway, origin = plain
    origin.answer("/old", Reply(200, [("transfer-encoding", "chunked")], b"4\r\nbody\r\n0\r\n\r\n"))
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("GET", "/old").replace(b"HTTP/1.1", b"HTTP/1.0"))
        status, _, _, headers = connection.read_head()
        assert status == 200
        assert "transfer-encoding" not in {name.lower() for name, _ in headers}
        assert connection.read_until_closed() == b"body"


def test_interim_answers_of_the_origin_do_not_end_the_exchange(plain: Plain) -> None:
    gateway, origin = plain

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody")

    origin.behave("/hints", behaviour)
    answer = fetch(gateway.address, "GET", "/hints")
    assert (answer.status, answer.body) == (200, b"body")


def test_an_early_answer_arrives_although_the_body_was_not_read(plain: Plain) -> None:
    gateway, origin = plain

    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")

    origin.behave("/early", behaviour, read_body=False)
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("POST", "/early", {"content-length": "100000"}) + b"x" * 1000)
        answer = connection.read_answer()
        assert (answer.status, answer.body) == (413, b"no")


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nonly this",
    ],
)
def test_a_body_that_breaks_off_never_looks_complete(plain: Plain, wire: bytes) -> None:
    gateway, origin = plain
    origin.behave("/broken", lambda line, request: line.send(wire))
    with Connection(gateway.address) as connection:
        connection.send(request_bytes("GET", "/broken"))
        with pytest.raises(Truncated) as caught:
            connection.read_answer()
    assert caught.value.received == b"only this"
