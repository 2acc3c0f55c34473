"""Over TLS the handshake says which version is spoken."""

from __future__ import annotations

import http.client

import pytest
from support.certificates import Authority
from support.http2 import Http2Connection
from support.origin import Origin
from support.processes import GatewayProcess

Secure = tuple[GatewayProcess, Origin, Authority]


def test_a_client_that_asks_for_http2_gets_it(secure: Secure) -> None:
    gateway, origin, authority = secure
    body = bytes(range(256)) * 2048
    with Http2Connection(gateway.address, tls=authority.client("h2", "http/1.1")) as connection:
        assert connection.socket.selected_alpn_protocol() == "h2"
        streams = [connection.begin("GET", f"/shared-{number}") for number in range(20)]
        targets = [connection.answer(stream).json()["target"] for stream in streams]
        assert targets == [f"/shared-{number}" for number in range(20)]
        assert connection.request("POST", "/encrypted", body=body).json()["body_size"] == len(body)
    (request,) = origin.received("/encrypted")
    assert request.body == body
    assert request.header("x-forwarded-proto") == "https"
    assert request.header("via") == "2 nylon"


@pytest.mark.parametrize("protocols", [["http/1.1"], []], ids=["asks for HTTP/1.1", "asks for nothing"])
def test_a_client_that_does_not_ask_for_http2_gets_http1(secure: Secure, protocols: list[str]) -> None:
    gateway, _, authority = secure
    _, port = gateway.address
    connection = http.client.HTTPSConnection(
        "localhost", port, context=authority.client(*protocols), timeout=10
    )
    connection.request("GET", "/old")
    assert connection.getresponse().version == 11
    connection.close()


def test_a_client_that_asked_for_http1_is_not_served_over_http2(secure: Secure) -> None:
    gateway, origin, authority = secure
    with Http2Connection(gateway.address, tls=authority.client("http/1.1")) as connection:
        stream = connection.begin("GET", "/unasked")
        assert connection.await_end() == []
        assert connection.streams[stream].status is None
    assert not origin.received("/unasked")
