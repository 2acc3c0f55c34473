"""`nylon.Gateway`: Python plugins behind real sockets."""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.in_process import EchoOrigin, config, connected, get, passing, wait_until

from nylon import (
    Context,
    ContextClosed,
    Gateway,
    NylonPlugin,
)

# ---- plugins behind sockets ----


@pytest.mark.parametrize("execution", ["thread", "inline"])
def test_a_plugin_file_runs_every_phase_over_sockets(
    origin: EchoOrigin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, execution: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "stamp.py").write_text(
        "import json, threading\n"
        "from nylon import NylonPlugin\n"
        "plugin = NylonPlugin()\n"
        "@plugin.phase_handler('stamp')\n"
        "def stamp(phase):\n"
        "    seen = []\n"
        "    @phase.request_filter\n"
        "    def first(ctx):\n"
        "        seen.append(threading.current_thread().name)\n"
        "        ctx.state['n'] = 1\n"
        "        ctx.request.headers['x-stamp'] = ctx.payload or 'none'\n"
        "        ctx.next()\n"
        "    @phase.response_filter\n"
        "    def second(ctx):\n"
        "        ctx.response.set_header('x-thread', seen[0]).set_header('x-n', str(ctx.state['n']))\n"
        "    @phase.response_body_filter\n"
        "    def third(ctx):\n"
        "        value = json.loads(ctx.response.read_body())\n"
        "        ctx.response.body_json(value | {'filtered': True})\n"
    )
    described = {"file": str(tmp_path / "stamp.py"), "execution": execution}
    with (
        Gateway(config(origin, described, {"/{*rest}": "stamp"})) as gateway,
        connected(gateway) as connection,
    ):
        connection.request("GET", "/a?b=c")
        response = connection.getresponse()
        value = json.loads(response.read())
    assert (value["path"], value["headers"]["x-stamp"], value["filtered"]) == ("/a?b=c", "none", True)
    assert response.headers["x-n"] == "1"
    thread = response.headers["x-thread"]
    assert thread.startswith("nylon-p-") if execution == "thread" else not thread.startswith("nylon-p-")


def test_an_async_handler_reads_the_body_from_the_connection(origin: EchoOrigin) -> None:
    plugin = NylonPlugin()

    @plugin.request_filter("read")
    async def read(ctx: Context) -> None:
        ctx.request.set_body((await ctx.request.read()).upper())
        ctx.next()

    @plugin.request_filter("declared", body=True)
    def declared(ctx: Context) -> None:
        ctx.request.set_body(ctx.request.body()[::-1])
        ctx.next()

    with Gateway(config(origin, plugin, {"/read": "read", "/declared": "declared"})) as gateway:
        assert get(gateway, "/read", b"body" * 10_000)[1]["body"] == "BODY" * 10_000
        assert get(gateway, "/declared", b"body")[1]["body"] == "ydob"


def test_a_slow_client_does_not_use_up_the_handlers_time(origin: EchoOrigin) -> None:
    plugin = NylonPlugin()
    reading = threading.Event()

    @plugin.request_filter("read")
    async def read(ctx: Context) -> None:
        reading.set()
        await ctx.request.read()
        ctx.next()

    policy = {"request_filter": {"timeout_ms": 300}}
    written = config(origin, plugin, {"/read": "read"}, per_phase=policy)
    with Gateway(written) as gateway, connected(gateway) as connection:
        connection.putrequest("POST", "/read")
        connection.putheader("content-length", "4")
        connection.endheaders(b"bo")
        assert reading.wait(10)
        time.sleep(0.5)  # longer than timeout_ms: the very thing under test
        connection.send(b"dy")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["body"]) == (200, "body")


def test_a_body_over_the_limit_is_413_even_if_the_handler_lets_the_error_escape(origin: EchoOrigin) -> None:
    plugin = NylonPlugin()

    @plugin.request_filter("read")
    async def read(ctx: Context) -> None:
        await ctx.request.read()
        ctx.next()

    written = config(origin, plugin, {"/read": "read"}) | {"limits": {"max_body_bytes": 100}}
    with Gateway(written) as gateway:
        assert get(gateway, "/read", b"x" * 101)[0] == 413
        assert get(gateway, "/read", b"x" * 100)[0] == 200


@pytest.mark.parametrize("way", ["pool", "inline", "loop"])
def test_a_raise_is_500_without_internals_and_logged_with_the_clients_request_id(
    origin: EchoOrigin, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = NylonPlugin()

    def bad(ctx: Context) -> None:
        raise ValueError("internal secret")

    async def bad_async(ctx: Context) -> None:
        await asyncio.sleep(0)
        bad(ctx)

    plugin.request_filter("bad", inline=way == "inline")(bad_async if way == "loop" else bad)
    before = origin.requests
    with Gateway(config(origin, plugin, {"/x": "bad"})) as gateway:
        status, value = get(gateway, "/x")
    assert status == 500
    assert "secret" not in json.dumps(value)
    assert "internal secret" in caplog.text and "Traceback" in caplog.text
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.request_id in json.dumps(value)  # type: ignore[attr-defined]
    assert origin.requests == before


@pytest.mark.parametrize("way", ["pool", "loop"])
def test_a_late_handler_is_504_and_the_others_of_its_plugin_go_on(origin: EchoOrigin, way: str) -> None:
    plugin = NylonPlugin()
    release = threading.Event()
    late: list[type[BaseException]] = []

    def blocks(ctx: Context) -> None:
        release.wait()
        try:
            ctx.next()
        except ContextClosed as error:
            late.append(type(error))

    async def waits(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            late.append(type(error))
            raise

    plugin.request_filter("late")(waits if way == "loop" else blocks)
    plugin.request_filter("fine")(lambda ctx: ctx.next())
    policy = {"request_filter": {"timeout_ms": 100}}
    written = config(origin, plugin, {"/late": "late", "/fine": "fine"}, per_phase=policy)
    with Gateway(written) as gateway:
        assert get(gateway, "/late")[0] == 504
        assert get(gateway, "/fine")[0] == 200
        release.set()
        wait_until(lambda: bool(late))
    assert late == [asyncio.CancelledError if way == "loop" else ContextClosed]


def test_a_blocked_pool_stops_no_other_route(origin: EchoOrigin) -> None:
    plugin = passing()
    everybody_in = threading.Barrier(5)
    release = threading.Event()

    @plugin.request_filter("blocks")
    def blocks(ctx: Context) -> None:
        everybody_in.wait()
        release.wait()
        ctx.next()

    entries = {"/blocks": "blocks", "/loop": "loop", "/inline": "inline"}
    with Gateway(config(origin, plugin, entries)) as gateway:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(get(gateway, "/blocks")[0])) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        everybody_in.wait()
        assert get(gateway, "/loop")[0] == 200
        assert get(gateway, "/inline")[0] == 200
        assert statuses == []
        release.set()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 4


@pytest.mark.parametrize("way", ["pool", "loop"])
def test_a_client_that_goes_away_closes_the_context(origin: EchoOrigin, way: str) -> None:
    plugin = NylonPlugin()
    entered, gone = threading.Event(), threading.Event()
    seen: list[type[BaseException]] = []

    def blocks(ctx: Context) -> None:
        entered.set()
        try:
            while True:
                ctx.request.path  # noqa: B018
                time.sleep(0.005)
        except ContextClosed as error:
            seen.append(type(error))
            gone.set()

    async def waits(ctx: Context) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            seen.append(type(error))
            gone.set()
            raise

    plugin.request_filter("e")(waits if way == "loop" else blocks)
    with Gateway(config(origin, plugin, {"/x": "e"})) as gateway:
        with connected(gateway) as connection:
            connection.request("GET", "/x")
            assert entered.wait(10)
        assert gone.wait(10)
    assert seen == [asyncio.CancelledError if way == "loop" else ContextClosed]


def test_more_calls_than_can_wait_are_refused_with_503(origin: EchoOrigin) -> None:
    plugin = NylonPlugin()
    release = threading.Event()

    @plugin.request_filter("blocks")
    def blocks(ctx: Context) -> None:
        release.wait()
        ctx.response.body_json({})
        ctx.end()

    async def flood(gateway: Gateway) -> list[int]:
        url = urlsplit(gateway.urls[0])

        async def one() -> int:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            status = int((await reader.readline()).split()[1])
            if status == 503:
                release.set()
            await reader.read()
            writer.close()
            return status

        return await asyncio.gather(*(one() for _ in range(4200)))

    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_000:
        pytest.skip("needs 10,000 file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10_000), hard))
    policy = {"request_filter": {"timeout_ms": 30_000}}
    with Gateway(config(origin, plugin, {"/x": "blocks"}, per_phase=policy)) as gateway:
        statuses = asyncio.run(flood(gateway))
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 4096
