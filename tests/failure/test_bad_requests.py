"""Requests that two readers could read differently are refused, with a closed connection, and never forwarded.

RFC 9112, 2.2, 3, 5, 6 and 11.2. The requests are sent as bytes through a real gateway; the details of each rule are
tested beside the code.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.client import Connection, exchange_bytes, fetch, request_bytes
from support.configs import gateway_config
from support.origin import Origin
from support.processes import GatewayProcess
from support.waiting import eventually

LIMITS = {"max_header_bytes": 8192, "max_headers": 50, "max_forwarded_body_bytes": 1000}
HEAD = b"POST /bad HTTP/1.1\r\nhost: localhost\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def process_and_origin() -> Iterator[tuple[GatewayProcess, Origin]]:
    with Origin() as origin, GatewayProcess(gateway_config(origin.address, limits=LIMITS)) as process:
        yield process, origin


@pytest.fixture
def gateway(process_and_origin: tuple[GatewayProcess, Origin]) -> tuple[GatewayProcess, Origin]:
    """The file's gateway, and its origin that has not seen a request."""
    process_and_origin[1].requests.clear()
    return process_and_origin


HEADS = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no-version": b"GET /bad\r\nhost: localhost\r\n\r\n",
    "lower-case-version": b"GET /bad http/1.1\r\nhost: localhost\r\n\r\n",
    "version-2": b"GET /bad HTTP/2.0\r\nhost: localhost\r\n\r\n",
    "two-spaces": b"GET  /bad HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "space-in-target": b"GET /bad x HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "relative-target": b"GET bad HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "control-in-target": b"GET /bad\x01 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "bytes-in-target": b"GET /bad\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "bad-method": b"G(T /bad HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "no-host": b"GET /bad HTTP/1.1\r\n\r\n",
    "two-hosts": b"GET /bad HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    "host-with-user": b"GET /bad HTTP/1.1\r\nhost: user@a\r\n\r\n",
    "host-with-space": b"GET /bad HTTP/1.1\r\nhost: a b\r\n\r\n",
    "host-with-path": b"GET /bad HTTP/1.1\r\nhost: a/b\r\n\r\n",
    "host-with-list": b"GET /bad HTTP/1.1\r\nhost: a, b\r\n\r\n",
    "space-before-colon": b"GET /bad HTTP/1.1\r\nhost: localhost\r\nx-a : 1\r\n\r\n",
    "space-before-name": b"GET /bad HTTP/1.1\r\n host: localhost\r\n\r\n",
    "folded-line": b"GET /bad HTTP/1.1\r\nhost: localhost\r\nx-a: 1\r\n folded\r\n\r\n",
    "no-colon": b"GET /bad HTTP/1.1\r\nhost: localhost\r\nx-a\r\n\r\n",
    "empty-name": b"GET /bad HTTP/1.1\r\nhost: localhost\r\n: 1\r\n\r\n",
    "nul-in-value": b"GET /bad HTTP/1.1\r\nhost: localhost\r\nx-a: 1\x002\r\n\r\n",
    "cr-in-value": b"GET /bad HTTP/1.1\r\nhost: localhost\r\nx-a: 1\r2\r\n\r\n",
    "length-and-chunked": HEAD
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunked-and-length": HEAD
    + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "two-lengths": HEAD + b"content-length: 0\r\ncontent-length: 45\r\n\r\n" + SMUGGLED,
    "the-same-length-twice": HEAD + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "a-list-of-lengths": HEAD + b"content-length: 1, 1\r\n\r\nx",
    "length-with-plus": HEAD + b"content-length: +1\r\n\r\nx",
    "negative-length": HEAD + b"content-length: -1\r\n\r\nx",
    "hexadecimal-length": HEAD + b"content-length: 0x1\r\n\r\nx",
    "length-beyond-64-bits": HEAD + b"content-length: 18446744073709551617\r\n\r\nx",
    "empty-length": HEAD + b"content-length: \r\n\r\n" + SMUGGLED,
    "two-codings": HEAD
    + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunked-twice": HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked-not-last": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "unknown-coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "coding-with-control": HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked-in-http-1.0": b"POST /bad HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
}


@pytest.mark.parametrize("name", HEADS)
def test_a_malformed_head_is_400_and_the_end_of_the_connection(
    gateway: tuple[GatewayProcess, Origin], name: str
) -> None:
    process, origin = gateway
    wire = exchange_bytes(process.address, HEADS[name])
    assert wire.startswith(b"HTTP/1.1 400 "), wire[:200]
    assert wire.count(b"HTTP/1.1 ") == 1
    assert origin.requests == []
    assert fetch(process.address, "GET", "/").status == 200


TOO_MUCH = {
    "header": (431, request_bytes("GET", "/bad", {"x-a": "x" * 9000})),
    "many-headers": (431, request_bytes("GET", "/bad", [(f"x-{n}", "1") for n in range(60)])),
    "endless-header": (431, b"GET /bad HTTP/1.1\r\nhost: localhost\r\nx-a: " + b"x" * 100_000),
    "body": (413, request_bytes("POST", "/bad", {}, b"x" * 1001)),
    "promised-body": (413, request_bytes("POST", "/bad", {"content-length": "1000000000000"})),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_is_refused_and_the_end_of_the_connection(
    gateway: tuple[GatewayProcess, Origin], name: str
) -> None:
    process, origin = gateway
    status, wire = TOO_MUCH[name]
    answer = exchange_bytes(process.address, wire)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert origin.requests == []


def test_a_fragment_is_no_part_of_a_forwarded_target(gateway: tuple[GatewayProcess, Origin]) -> None:
    process, origin = gateway
    fetch(process.address, "GET", "/whole#part")
    assert [request.target for request in origin.requests] in ([], ["/whole"])


def test_a_target_that_is_too_long_is_refused(gateway: tuple[GatewayProcess, Origin]) -> None:
    process, origin = gateway
    answer = exchange_bytes(process.address, request_bytes("GET", "/" + "x" * 9000))
    assert answer[:13] in (b"HTTP/1.1 414 ", b"HTTP/1.1 431 "), answer[:200]
    assert origin.requests == []


BODIES = {
    "chunk-size": b"zz\r\nx\r\n0\r\n\r\n",
    "chunk-size-with-sign": b"+1\r\nx\r\n0\r\n\r\n",
    "chunk-size-beyond-64-bits": b"10000000000000001\r\nx\r\n0\r\n\r\n",
    "chunk-longer-than-its-size": b"1\r\nxx\r\n0\r\n\r\n",
    "chunk-end": b"1\r\nxXX0\r\n\r\n",
    "chunked-beyond-the-limit": b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_malformed_body_never_looks_complete_to_the_origin(
    gateway: tuple[GatewayProcess, Origin], name: str
) -> None:
    process, origin = gateway
    head = request_bytes("POST", f"/{name}", {"transfer-encoding": "chunked"})
    answer = exchange_bytes(process.address, head + BODIES[name] + SMUGGLED)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer[:10] in (b"", b"HTTP/1.1 4"), answer[:200]
    assert not any(request.complete for request in origin.received(f"/{name}"))
    assert origin.received("/smuggled") == []


@pytest.mark.parametrize(
    "wire", [b"GET /trunc", b"GET /trunc HTTP/1.1\r\nhost: local", b"GET /trunc HTTP/1.1\r\nhost: a\r\n"]
)
def test_a_head_that_breaks_off_is_never_forwarded(
    gateway: tuple[GatewayProcess, Origin], wire: bytes
) -> None:
    process, origin = gateway
    with Connection(process.address) as connection:
        connection.send(wire)
        connection.finish_sending()
        assert connection.read_until_closed()[:10] in (b"", b"HTTP/1.1 4")
    assert origin.received("/trunc") == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_breaks_off_never_looks_complete_to_the_origin(
    gateway: tuple[GatewayProcess, Origin], chunked: bool
) -> None:
    process, origin = gateway
    path = f"/breaks-off-{chunked}"
    framing = {"transfer-encoding": "chunked"} if chunked else {"content-length": "100"}
    with Connection(process.address) as connection:
        connection.send(request_bytes("POST", path, framing) + (b"5\r\nfirst\r\n" if chunked else b"first"))
        eventually(lambda: origin.received(path), "the request at the origin")
        connection.finish_sending()
        assert connection.read_until_closed()[:10] in (b"", b"HTTP/1.1 4")
    (request,) = origin.received(path)
    assert not request.complete


def test_an_absolute_target_and_the_host_are_one_host_to_the_origin(
    gateway: tuple[GatewayProcess, Origin],
) -> None:
    """Whichever of the two is believed (RFC 9112, 3.2.2), routing and origin see the same one."""
    process, origin = gateway
    answer = exchange_bytes(
        process.address,
        b"GET http://one.example/abs HTTP/1.1\r\nhost: two.example\r\nconnection: close\r\n\r\n",
    )
    if answer.startswith(b"HTTP/1.1 400 "):
        assert origin.received("/abs") == []
    else:
        (request,) = origin.received("/abs")
        assert request.header("host") == request.header("x-forwarded-host") == "one.example"
