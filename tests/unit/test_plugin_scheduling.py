"""Where handlers run, and what becomes of those that raise, wait, block or never come back."""

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import pytest

from nylon import Context, ContextClosed, NylonPlugin
from nylon.testing import PluginClient, Result

Handler = Callable[[Context], Any]


@pytest.fixture(params=["uvloop", "asyncio"], autouse=True)
def event_loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs on both loops: uvloop is taken where it is installed."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    else:
        pytest.importorskip("uvloop")
    return request.param


def run(handler: Handler, *, timeout: float = 5.0, times: int = 1, inline: bool | None = None) -> Result:
    """The last of so many requests through one request_filter."""
    plugin = NylonPlugin()
    plugin.request_filter("e", inline=inline)(handler)
    with PluginClient(plugin, timeout=timeout) as client:
        for _ in range(times):
            result = client.get("/", entry="e")
    return result


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for a condition; the test's own time-out bounds it."""
    while not condition():
        time.sleep(0.002)


def test_def_handlers_run_in_named_threads_and_async_ones_on_the_loop() -> None:
    names: list[str] = []

    def pooled(ctx: Context) -> None:
        names.append(threading.current_thread().name)
        ctx.next()

    async def looped(ctx: Context) -> None:
        pooled(ctx)

    run(pooled)
    run(looped)
    assert names[0].startswith("nylon-plugin-") and names[0][-1].isdigit()
    assert names[1] == "nylon-plugin-loop"


@pytest.mark.parametrize("times", [1, 3])
def test_before_the_first_await_a_handler_is_part_of_a_real_task(times: int) -> None:
    async def handler(ctx: Context) -> None:
        task = asyncio.current_task()
        assert isinstance(task, asyncio.Task)
        assert task in asyncio.all_tasks()
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        assert asyncio.current_task() is task
        ctx.next()

    assert run(handler, times=times).error is None


def test_asyncio_timeout_ends_a_handler_that_set_it_before_its_first_await() -> None:
    async def handler(ctx: Context) -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            ctx.request.headers["x"] = "timed out"
        await asyncio.sleep(0)
        ctx.next()

    result = run(handler, times=3)
    assert result.error is None
    assert result.request.headers["x"] == "timed out"


def test_a_timeout_of_zero_and_a_self_cancel_take_effect() -> None:
    async def zero(ctx: Context) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(5)
        except TimeoutError:
            ctx.next()

    async def cancels_itself(ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            task.uncancel()
            ctx.next()

    assert run(zero, times=2).error is None
    assert run(cancels_itself, times=2).error is None


def test_a_task_that_cancelled_itself_without_waiting_serves_no_other_handler() -> None:
    calls = 0

    async def handler(ctx: Context) -> None:
        nonlocal calls
        calls += 1
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        if calls == 1:
            task.cancel()
        else:
            await asyncio.sleep(0)
        ctx.next()

    assert run(handler, times=3).error is None


def test_a_task_group_before_the_first_await_collects_and_fails_as_one() -> None:
    async def handler(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(asyncio.sleep(0.001, 1)), group.create_task(asyncio.sleep(0, 2))
        assert one.result() + two.result() == 3
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                raise ValueError
        ctx.next()

    assert run(handler, times=2).error is None


@pytest.fixture
def origin() -> Any:
    """An HTTP server for clients to call."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_aiohttp_and_httpx_work_as_a_handlers_first_act(origin: str) -> None:
    async def with_aiohttp(ctx: Context) -> None:
        async with aiohttp.ClientSession() as session, session.get(origin) as response:
            assert await response.text() == "ok"
        ctx.next()

    async def with_httpx(ctx: Context) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(origin)).text == "ok"
        ctx.next()

    assert run(with_aiohttp, times=2).error is None
    assert run(with_httpx, times=2).error is None


@pytest.mark.parametrize("kind", ["def", "async", "awaits", "inline def", "inline async"])
def test_context_variables_do_not_leak_into_the_next_request(kind: str) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    def count(ctx: Context) -> None:
        variable.set(variable.get() + 1)
        ctx.request.headers["x"] = str(variable.get())
        ctx.next()

    async def count_async(ctx: Context) -> None:
        count(ctx)

    async def count_after_await(ctx: Context) -> None:
        variable.set(variable.get() + 10)
        await asyncio.sleep(0)
        variable.set(variable.get() - 10)
        count(ctx)

    handler = {"def": count, "inline def": count, "awaits": count_after_await}.get(kind, count_async)
    result = run(handler, times=4, inline=kind.startswith("inline"))
    assert result.error is None
    assert result.request.headers["x"] == "1"


def raise_in(kind: str, error: BaseException) -> Handler:
    def plain(ctx: Context) -> None:
        ctx.request.headers["x"] = "1"
        ctx.next()
        raise error

    async def at_once(ctx: Context) -> None:
        plain(ctx)

    async def later(ctx: Context) -> None:
        await asyncio.sleep(0)
        plain(ctx)

    return {"async": at_once, "awaits": later, "inline async": at_once}.get(kind, plain)


KINDS = ["def", "async", "awaits", "inline def", "inline async"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_whatever_a_handler_raises_ends_its_call_only(
    kind: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = NylonPlugin()
    plugin.request_filter("bad", inline=kind.startswith("inline"))(raise_in(kind, error))
    plugin.request_filter("good", inline=kind.startswith("inline"))(
        {"def": lambda ctx: ctx.next(), "inline def": lambda ctx: ctx.next()}.get(kind, _go_on)
    )
    with PluginClient(plugin) as client:
        for _ in range(2):
            result = client.get("/", entry="bad")
            assert result.outcome == "error"
            assert result.error is not None
            assert result.error.kind == "raised"
            assert result.error.message.startswith(type(error).__name__)
            assert "x" not in result.request.headers
        assert client.get("/", entry="good").outcome == "next"
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.exc_info is not None and record.exc_info[1] is error
    trace = record.exc_info[2]
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "plain" in names


async def _go_on(ctx: Context) -> None:
    ctx.next()


def test_a_child_tasks_system_exit_does_not_end_the_loop() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def handler(ctx: Context) -> None:
        task = asyncio.ensure_future(leave())
        with pytest.raises(SystemExit):
            await task
        ctx.next()

    assert run(handler, times=3).outcome == "next"


def test_a_def_handler_that_gives_back_a_coroutine_is_told_so() -> None:
    result = run(lambda ctx: _go_on(ctx))
    assert result.error is not None and "async def" in result.error.message


def test_an_inline_async_handler_must_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    async def sleeps(ctx: Context) -> None:
        await asyncio.sleep(1)
        ctx.next()

    async def yields(ctx: Context) -> None:
        await asyncio.sleep(0)
        ctx.next()

    for handler in (sleeps, yields):
        result = run(handler, inline=True)
        assert result.error is not None and result.error.kind == "raised"
    assert "must not wait" in caplog.text


@pytest.mark.parametrize("kind", ["def", "inline def"])
def test_a_late_handler_is_a_time_out_and_its_mutations_are_dropped(kind: str) -> None:
    late: list[Any] = []
    release = threading.Event()

    def handler(ctx: Context) -> None:
        ctx.request.headers["x"] = "1"
        if kind == "def":
            release.wait()
        else:
            time.sleep(0.2)
        try:
            ctx.next()
        except ContextClosed as error:
            late.append(error)

    plugin = NylonPlugin()
    plugin.request_filter("e", inline=kind == "inline def")(handler)
    with PluginClient(plugin, timeout=0.1) as client:
        result = client.get("/", entry="e")
        release.set()
    assert result.error is not None and result.error.kind == "timed_out"
    assert "x" not in result.request.headers
    assert len(late) == (kind == "def")


def test_a_late_async_handler_is_cancelled() -> None:
    ended: list[str] = []

    async def handler(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    plugin = NylonPlugin()
    plugin.request_filter("e")(handler)
    with PluginClient(plugin, timeout=0.05) as client:
        result = client.get("/", entry="e")
        wait_until(lambda: ended == ["cancelled"])
    assert result.error is not None and result.error.kind == "timed_out"


def test_waiting_for_the_body_does_not_count_as_the_handlers_time() -> None:
    async def handler(ctx: Context) -> None:
        await ctx.request.read()
        ctx.next()

    assert run(handler, timeout=0.5).error is None


def test_a_blocked_handler_keeps_its_thread_and_the_others_go_on() -> None:
    release = threading.Event()
    plugin = NylonPlugin()

    @plugin.request_filter("blocks")
    def blocks(ctx: Context) -> None:
        release.wait()
        ctx.next()

    plugin.request_filter("works")(lambda ctx: ctx.next())
    with PluginClient(plugin, timeout=0.05) as client:
        for _ in range(3):  # the pool has four threads
            blocked = client.get("/", entry="blocks")
            assert blocked.error is not None and blocked.error.kind == "timed_out"
            assert client.get("/", entry="works", timeout=5).error is None
        release.set()


def test_a_stuck_handler_is_logged_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def stuck_here(ctx: Context) -> None:
        release.wait()

    plugin = NylonPlugin()
    plugin.request_filter("e")(stuck_here)
    with PluginClient(plugin, timeout=0.01) as client:
        client.get("/", entry="e")
        wait_until(lambda: any("stuck here" in record.message for record in caplog.records))
        release.set()
    stuck = [record.message for record in caplog.records if "is stuck here" in record.message]
    assert len(stuck) == 1
    assert "stuck_here" in stuck[0] and "release.wait()" in stuck[0]


def test_the_switch_interval_is_lowered_while_plugins_run_and_restored() -> None:
    before = sys.getswitchinterval()
    seen: list[float] = []
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    def handler(ctx: Context) -> None:
        seen.append(sys.getswitchinterval())
        ctx.next()

    with PluginClient(plugin) as client, PluginClient(plugin):
        client.get("/", entry="e")
    assert seen[0] < before
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize("kind", KINDS)
def test_contexts_and_what_handlers_hold_are_freed(kind: str) -> None:
    class Marker: ...

    markers: list[weakref.ref[Marker]] = []

    def plain(ctx: Context) -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        ctx.next()

    async def at_once(ctx: Context) -> None:
        plain(ctx)

    async def later(ctx: Context) -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        await asyncio.sleep(0)
        ctx.next()

    handler = {"async": at_once, "inline async": at_once, "awaits": later}.get(kind, plain)
    run(handler, times=5, inline=kind.startswith("inline"))
    gc.collect()
    assert [marker() for marker in markers] == [None] * 5


def test_nothing_is_left_after_close() -> None:
    threads = set(threading.enumerate())
    run(_go_on, times=2)
    run(lambda ctx: ctx.next(), times=2)
    wait_until(lambda: set(threading.enumerate()) <= threads)
