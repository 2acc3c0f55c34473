"""Plugins over HTTP/2: every phase, every way to a body, and what is owed when a client takes its request back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.client import Address
from support.configs import gateway_config, route
from support.http2 import Http2Connection, Reset
from support.origin import Origin, Reply
from support.waiting import eventually

from nylon import Context, Gateway, NylonPlugin, StreamClosed

plugin = NylonPlugin()
logged: list[tuple[str, int, str | None]] = []
closed = threading.Event()


@plugin.phase_handler("all")
def all_phases(phase: Any) -> None:
    """What came before is seen by what comes after."""
    seen: dict[str, Any] = {}

    @phase.request_filter(body=True)
    def ask(ctx: Context) -> None:
        seen["path"] = ctx.request.path
        ctx.request.headers["x-version"] = ctx.request.http_version
        ctx.request.headers["x-body"] = str(len(ctx.request.body()))
        ctx.next()

    @phase.response_filter
    def head(ctx: Context) -> None:
        ctx.response.set_header("x-path", seen["path"]).set_header("connection", "close")

    @phase.response_body_filter(stream=True)
    def body(ctx: Context) -> None:
        ctx.chunk = ctx.chunk.upper()

    @phase.logging
    def log(ctx: Context) -> None:
        logged.append((ctx.request.path, ctx.response.bytes, ctx.response.error))


@plugin.phase_handler("streaming")
def streaming(phase: Any) -> None:
    """A response without an end, until the client has enough of it."""

    @phase.request_filter
    async def write(ctx: Context) -> None:
        async with ctx.response.stream() as stream:
            try:
                while True:
                    await stream.write(b"x" * 10_000)
            except StreamClosed:
                closed.set()
                raise

    @phase.logging
    def log(ctx: Context) -> None:
        logged.append((ctx.request.path, ctx.response.bytes, ctx.response.error))


@plugin.request_filter("breaking")
async def breaking(ctx: Context) -> None:
    """A response that its handler does not complete."""
    async with ctx.response.stream() as stream:
        await stream.write(b"some")
        raise ValueError("enough")


@plugin.request_filter("answering")
def answering(ctx: Context) -> None:
    """A response without a service."""
    ctx.response.set_status(202).body_json({"version": ctx.request.http_version})
    ctx.end()


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[Address, Origin]]:
    with Origin() as origin:
        entries = ["all", "streaming", "breaking", "answering"]
        paths = [
            route([f"/{entry}", f"/{entry}/{{*rest}}"], middleware=[{"plugin": "p", "entry": entry}])
            for entry in entries
        ]
        config = gateway_config(origin.address, paths, plugins=[{"name": "p", "plugin": plugin}])
        with Gateway(config) as running:
            url = urlsplit(running.urls[0])
            assert url.hostname is not None
            assert url.port is not None
            yield (url.hostname, url.port), origin


def test_all_phases_run_for_each_of_many_streams(gateway: tuple[Address, Origin]) -> None:
    address, origin = gateway
    for number in range(20):
        origin.answer(f"/all/{number}", Reply(200, [], f"body {number} ".encode() * 10_000))
    with Http2Connection(address) as connection:
        streams = [connection.begin("POST", f"/all/{number}", end=False) for number in range(20)]
        for number, stream in enumerate(streams):
            connection.send_body(stream, b"b" * number)
        for number, stream in enumerate(streams):
            answer = connection.answer(stream)
            assert answer.body == f"BODY {number} ".encode() * 10_000
            assert answer.header("x-path") == f"/all/{number}"
            assert answer.header("connection") is None
    for number in range(20):
        (request,) = origin.received(f"/all/{number}")
        assert request.header("x-version") == "2"
        assert request.header("x-body") == str(number)
        assert request.body == b"b" * number
    expected = {(f"/all/{number}", len(f"body {number} ") * 10_000, None) for number in range(20)}
    eventually(lambda: expected <= set(logged), "all are logged")


def test_a_handlers_answer_goes_out(gateway: tuple[Address, Origin]) -> None:
    address, _ = gateway
    with Http2Connection(address) as connection:
        answer = connection.request("GET", "/answering")
        assert (answer.status, answer.json()) == (202, {"version": "2"})


def test_a_client_that_takes_its_request_back_ends_the_handlers_stream(
    gateway: tuple[Address, Origin],
) -> None:
    address, _ = gateway
    closed.clear()
    with Http2Connection(address) as connection:
        stream = connection.begin("GET", "/streaming/back")
        connection.until(lambda: len(connection.streams[stream].body) > 300_000)
        connection.cancel(stream)
        assert closed.wait(10)
        eventually(lambda: any(path == "/streaming/back" for path, _, _ in logged), "it is logged")
        ((_, size, error),) = [entry for entry in logged if entry[0] == "/streaming/back"]
        assert size >= 300_000
        assert error == "the client went away before the response was sent"
        assert connection.request("GET", "/answering").status == 202


def test_a_connection_that_breaks_ends_the_handlers_streams(gateway: tuple[Address, Origin]) -> None:
    address, _ = gateway
    closed.clear()
    with Http2Connection(address) as connection:
        stream = connection.begin("GET", "/streaming/broken")
        connection.until(lambda: len(connection.streams[stream].body) > 100_000)
    assert closed.wait(10)
    eventually(lambda: any(path == "/streaming/broken" for path, _, _ in logged), "it is logged")


def test_a_client_that_takes_its_request_back_before_the_answer_is_logged(
    gateway: tuple[Address, Origin],
) -> None:
    address, origin = gateway
    origin.behave("/all/held", lambda line, request: (origin.pass_gate("held"), Reply(200))[1])
    with Http2Connection(address) as connection:
        stream = connection.begin("GET", "/all/held")
        origin.await_waiting("held")
        connection.cancel(stream)
        connection.ping()
        origin.open_gate("held")
        eventually(lambda: any(path == "/all/held" for path, _, _ in logged), "it is logged")


def test_a_stream_that_its_handler_breaks_off_is_reset(gateway: tuple[Address, Origin]) -> None:
    address, _ = gateway
    with Http2Connection(address) as connection:
        with pytest.raises(Reset):
            connection.request("GET", "/breaking")
        assert connection.request("GET", "/answering").status == 202
