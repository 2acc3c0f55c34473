"""Services over TLS and HTTP/2, from the configuration to the answer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.client import fetch
from support.configs import gateway_config, http_service, route
from support.http2 import Http2Connection
from support.http2_origin import Http2Origin, Http2Reply
from support.processes import GatewayProcess
from support.waiting import eventually

from nylon import Context, Gateway, NylonPlugin

plugin = NylonPlugin()


@plugin.phase_handler("by_chunk")
def by_chunk(phase: Any) -> None:
    """Makes the body longer, chunk by chunk."""

    @phase.response_body_filter(stream=True)
    def double(ctx: Context) -> None:
        ctx.chunk = ctx.chunk + (b"!" if ctx.end_of_stream else b"")


@plugin.phase_handler("looking")
def looking(phase: Any) -> None:
    """Reads the whole body and leaves it as it is."""

    @phase.response_body_filter
    def look(ctx: Context) -> None:
        ctx.response.set_header("x-length", str(len(ctx.response.read_body())))


@plugin.phase_handler("replacing")
def replacing(phase: Any) -> None:
    """Puts another body in its place."""

    @phase.response_body_filter
    def replace(ctx: Context) -> None:
        ctx.response.body_raw(b"another")


def trailed(_: object) -> Http2Reply:
    """An answer with the trailers of gRPC, and one that may not be one."""
    trailers = [("grpc-status", "0"), ("grpc-message", "fine"), ("content-encoding", "gzip")]
    return Http2Reply(
        headers=[("content-type", "application/grpc")], body=b"\0\0\0\0\3abc", trailers=trailers
    )


@pytest.fixture(scope="module")
def filtered() -> Iterator[tuple[Gateway, Http2Origin]]:
    """A gateway with one path for each way to filter, in front of HTTP/2."""
    with Http2Origin() as origin:
        entries = ("by_chunk", "looking", "replacing")
        paths = [
            route(f"/{entry}", middleware=[{"plugin": "bodies", "entry": entry}]) for entry in entries
        ] + [route("/{*rest}")]
        for path in [*(f"/{entry}" for entry in entries), "/untouched"]:
            origin.behave(path, trailed)
        service = http_service("origin", origin.address, protocol="http2")
        config = gateway_config(
            None, paths, services=[service], plugins=[{"name": "bodies", "plugin": plugin}]
        )
        with Gateway(config) as gateway:
            yield gateway, origin


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        ("/untouched", b"\0\0\0\0\3abc", True),
        ("/by_chunk", b"\0\0\0\0\3abc!", True),
        ("/looking", b"\0\0\0\0\3abc", True),
        ("/replacing", b"another", False),
    ],
)
def test_trailers_stay_with_the_body_that_they_are_of(
    filtered: tuple[Gateway, Http2Origin], path: str, body: bytes, kept: bool
) -> None:
    gateway, _ = filtered
    host, port = gateway.urls[0].removeprefix("http://").split(":")
    with Http2Connection((host, int(port))) as client:
        stream = client.begin("GET", path, {"te": "trailers"})
        answer = client.answer(stream)
        assert (answer.status, answer.body) == (200, body)
        expected = [("grpc-status", "0"), ("grpc-message", "fine")] if kept else None
        assert client.streams[stream].trailers == expected


def test_a_call_with_trailers_both_ways_passes_from_http2_to_http2(
    filtered: tuple[Gateway, Http2Origin],
) -> None:
    gateway, origin = filtered
    host, port = gateway.urls[0].removeprefix("http://").split(":")
    fields = {"te": "trailers", "content-type": "application/grpc", "grpc-timeout": "1S"}
    with Http2Connection((host, int(port))) as client:
        stream = client.begin("POST", "/call", fields, authority="app.example", end=False)
        client.send_body(stream, b"x" * 100_000, end=False)
        client.send_trailers(stream, [("x-sum", "7"), ("authorization", "Basic eA==")])
        assert client.answer(stream).body == b"x" * 100_000
    request = origin.requests[-1]
    assert (request.header(":authority"), request.header("te")) == ("app.example", "trailers")
    assert request.header("grpc-timeout") == "1S"
    assert request.trailers == [("x-sum", "7")]


def test_a_service_over_tls_is_believed_by_its_authority_only(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("app.internal").configure_cert(context)
    with Http2Origin(context) as origin:
        services = [
            http_service(name, origin.address, protocol="http2", tls={"ca_file": ca, "sni": sni})
            for name, ca, sni in [
                ("believed", "ca.pem", "app.internal"),
                ("unknown", "other.pem", "app.internal"),
                ("misnamed", "ca.pem", "other.internal"),
            ]
        ]
        for service in services:
            service["tls"]["ca_file"] = str(tmp_path / service["tls"]["ca_file"])
        paths = [route(f"/{service['name']}", service["name"]) for service in services]
        with GatewayProcess(gateway_config(None, paths, services=services)) as gateway:
            answer = fetch(gateway.address, "POST", "/believed", body=b"hello")
            assert (answer.status, answer.body) == (200, b"hello")
            assert origin.requests[-1].header(":scheme") == "https"
            for path, why in [("/unknown", "UnknownIssuer"), ("/misnamed", "for another name")]:
                answer = fetch(gateway.address, "GET", path)
                assert (answer.status, answer.json()["error"]) == (502, "the upstream cannot be reached")
                eventually(lambda why=why: why in gateway.log, f"{why} in the log")
                assert why.encode() not in answer.body


def test_a_check_and_a_retry_speak_the_services_protocol() -> None:
    with Http2Origin() as well, Http2Origin() as sick:
        failing = lambda _: Http2Reply(status=503)  # noqa: E731
        sick.behave("/health", failing)
        sick.behave("/flaky", failing)
        check = {"path": "/health", "interval": "200ms", "unhealthy_threshold": 1}
        retry = {"attempts": 1, "on": ["gateway_error"], "budget_percent": 100}
        services = [
            http_service("checked", well.address, sick.address, protocol="http2", health_check=check),
            http_service("retried", well.address, sick.address, protocol="http2", retry=retry),
        ]
        paths = [route("/flaky", "retried"), route("/{*rest}", "checked")]
        with GatewayProcess(gateway_config(None, paths, services=services)) as gateway:
            assert {fetch(gateway.address, "GET", "/flaky").status for _ in range(6)} == {200}
            eventually(lambda: "gets no requests" in gateway.log, "a sick endpoint")
            before = len(sick.requests)
            assert {fetch(gateway.address, "GET", "/x").status for _ in range(6)} == {200}
            assert all(request.header(":path") == "/health" for request in sick.requests[before:])
