"""`nylon.Gateway`: its life in a process, and plugins behind real sockets."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from nylon import (
    ConfigError,
    Context,
    ContextClosed,
    Gateway,
    GatewayError,
    NylonError,
    NylonPlugin,
    PluginError,
)


class Origin(ThreadingHTTPServer):
    """Answers each request with what it got, as JSON."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests = 0
        self.handling = 0
        self._lock = threading.Lock()

    def process_request_thread(self, *args: Any) -> None:
        with self._lock:
            self.handling += 1
        try:
            super().process_request_thread(*args)
        finally:
            with self._lock:
                self.handling -= 1


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests += 1  # type: ignore[attr-defined]
        fields = {name.lower(): value for name, value in self.headers.items()}
        out = json.dumps({"path": self.path, "headers": fields, "body": body.decode("latin-1")}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config(origin: Origin | None, plugin: Any, entries: dict[str, str], **more: Any) -> dict[str, Any]:
    """One route with a path for each entry; `plugin` is an object or the keys of one."""
    port = origin.server_port if origin is not None else 9
    described = {"plugin": plugin} if isinstance(plugin, NylonPlugin) else plugin
    return {
        "http": ["127.0.0.1:0"],
        "runtime": {"threads": 1, "grace_period_seconds": 2, "graceful_shutdown_timeout_seconds": 2},
        "plugins": [{"name": "p", **described, **more}],
        "services": [{"name": "o", "service_type": "http", "endpoints": [{"ip": "127.0.0.1", "port": port}]}],
        "routes": [
            {
                "route": {"type": "host", "value": "*"},
                "name": "r",
                "paths": [
                    {"path": path, "service": {"name": "o"}, "middleware": [{"plugin": "p", "entry": entry}]}
                    for path, entry in entries.items()
                ],
            }
        ],
    }


@contextmanager
def connected(gateway: Gateway) -> Iterator[http.client.HTTPConnection]:
    url = urlsplit(gateway.urls[0])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def get(gateway: Gateway, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON body of one request."""
    with connected(gateway) as connection:
        connection.request("GET" if body is None else "POST", path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.002)


def passing() -> NylonPlugin:
    plugin = NylonPlugin()
    plugin.request_filter("pool")(lambda ctx: ctx.next())
    plugin.request_filter("inline", inline=True)(lambda ctx: ctx.next())

    @plugin.request_filter("loop")
    async def loop(ctx: Context) -> None:
        ctx.next()

    return plugin


EVERY_WAY = {"/pool": "pool", "/inline": "inline", "/loop": "loop"}


# ---- its life ----


def test_a_gateway_starts_and_stops_fifty_times_and_leaves_nothing(origin: Origin) -> None:
    me = psutil.Process()
    gateway = Gateway(config(origin, passing(), EVERY_WAY))
    sizes: list[int] = []
    threads = me.num_threads()
    descriptors: list[int] = []
    for _ in range(50):
        with gateway:
            for path in EVERY_WAY:
                assert get(gateway, path)[0] == 200
        # The origin's own threads end when they notice that the gateway's pooled connections are closed.
        wait_until(lambda: not origin.handling and me.num_threads() <= threads)
        descriptors.append(me.num_fds())
        sizes.append(me.memory_info().rss)
    assert max(descriptors[1:]) <= descriptors[0]
    assert sizes[-1] - sizes[9] < 10_000_000
    assert gateway.urls == [] and not gateway.is_running


def test_several_gateways_run_at_once_each_with_its_plugin(origin: Origin) -> None:
    gateways = [Gateway(config(origin, passing(), EVERY_WAY)) for _ in range(3)]
    for gateway in gateways:
        gateway.start()
    try:
        assert len({gateway.urls[0] for gateway in gateways}) == 3
        assert [get(gateway, "/loop")[0] for gateway in gateways] == [200] * 3
        gateways[0].stop()
        assert [get(gateway, "/pool")[0] for gateway in gateways[1:]] == [200] * 2
    finally:
        for gateway in gateways:
            gateway.stop()
            gateway.stop()


def test_starting_twice_is_an_error_and_changes_nothing(origin: Origin) -> None:
    with Gateway(config(origin, passing(), EVERY_WAY)) as gateway:
        with pytest.raises(GatewayError, match="runs already"):
            gateway.start()
        assert get(gateway, "/pool")[0] == 200


def test_a_taken_port_is_one_clear_line_and_nothing_is_left(origin: Origin) -> None:
    ended: list[str] = []
    plugin = passing()
    plugin.shutdown(lambda: ended.append("shutdown"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        written = config(origin, plugin, EVERY_WAY) | {"http": [f"127.0.0.1:{taken.getsockname()[1]}"]}
        gateway = Gateway(written)
        with pytest.raises(GatewayError, match=r"^cannot listen on 127\.0\.0\.1:\d+: .*$"):
            gateway.start()
    assert ended == ["shutdown"]
    with gateway:
        assert get(gateway, "/pool")[0] == 200


def test_wait_returns_when_another_thread_stops(origin: Origin) -> None:
    gateway = Gateway(config(origin, passing(), EVERY_WAY))
    with gateway:
        assert gateway.wait(0.01) is False
        stopper = threading.Timer(0.05, gateway.stop)
        stopper.start()
        assert gateway.wait() is True
        stopper.join()


def test_reload_says_that_it_is_not_available(origin: Origin) -> None:
    with pytest.raises(NylonError, match="not available in this version"):
        Gateway(config(origin, passing(), EVERY_WAY)).reload()


SCRIPT = """
import sys, threading
from nylon import Gateway, NylonPlugin
plugin = NylonPlugin()
plugin.request_filter("pool")(lambda ctx: ctx.response.body_text("ok") and ctx.end())
plugin.request_filter("inline", inline=True)(lambda ctx: ctx.response.body_text("ok") and ctx.end())
@plugin.request_filter("loop")
async def loop(ctx):
    ctx.response.body_text("ok")
    ctx.end()
@plugin.shutdown
def bye():
    print("shutdown", flush=True)
import json
gateway = Gateway(json.loads(sys.argv[1]) | {"plugins": [{"name": "p", "plugin": plugin}]})
gateway.start()
print(gateway.urls[0], flush=True)
"""


def script(ending: str) -> subprocess.Popen[str]:
    written = config(None, {"module": "x"}, EVERY_WAY)
    command = [sys.executable, "-c", SCRIPT + ending, json.dumps(written)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_ends_a_waiting_script_and_runs_shutdown() -> None:
    process = script("gateway.wait()\n")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert "shutdown" in out
    assert err.strip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT or process.returncode == 130


def test_a_script_that_forgets_to_stop_exits_cleanly_under_load() -> None:
    for path in EVERY_WAY:
        process = script("threading.Event().wait(0.4)\n")
        assert process.stdout is not None
        url = urlsplit(process.stdout.readline().strip())
        over = threading.Event()

        def load(
            over: threading.Event = over,
            path: str = path,
            host: str = url.hostname or "",
            port: int = url.port or 0,
        ) -> None:
            while not over.is_set():
                connection = http.client.HTTPConnection(host, port, timeout=5)
                try:
                    for _ in range(50):
                        connection.request("GET", path)
                        connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    time.sleep(0.001)
                finally:
                    connection.close()

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        out, err = process.communicate(timeout=20)
        over.set()
        for thread in threads:
            thread.join()
        assert (process.returncode, err) == (0, "")
        assert "shutdown" in out


def test_a_handler_that_never_returns_does_not_keep_the_process() -> None:
    process = script(
        "from nylon.testing import PluginClient\n"
        "stuck = NylonPlugin()\n"
        "stuck.request_filter('e')(lambda ctx: threading.Event().wait())\n"
        "client = PluginClient(stuck, timeout=0.01)\n"
        "print(client.get('/', entry='e').error.kind, flush=True)\n"
    )
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "timed_out" in out and "shutdown" in out


def test_a_forked_child_is_told_that_the_gateway_is_not_its_own(origin: Origin) -> None:
    with Gateway(config(origin, passing(), EVERY_WAY)) as gateway:
        pid = os.fork()
        if pid == 0:
            try:
                gateway.stop()
            except GatewayError as error:
                os._exit(0 if "forked" in str(error) else 2)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert get(gateway, "/loop")[0] == 200


# ---- configuration and plugin files ----


def test_a_wrong_configuration_lists_all_errors() -> None:
    with pytest.raises(ConfigError) as info:
        Gateway({"http": ["nonsense"], "servces": []})
    assert "nonsense" in str(info.value) and "services" in str(info.value)


def test_a_configuration_of_odd_values_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="NylonPlugin object"):
        Gateway({"plugins": [{"name": "p", "plugin": 7}]})
    with pytest.raises(TypeError, match="object"):
        Gateway({"http": [object()]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from nylon import NylonPlugin\nplugin = NylonPlugin(\n", r"auth\.py:2.*SyntaxError"),
        ("import not_there\n", r"auth\.py:1: .*ModuleNotFoundError"),
        ("plugin = 7\n", r"auth\.py:1: .*not a NylonPlugin"),
        (
            "from nylon import NylonPlugin\nplugin = NylonPlugin()\n@plugin.initialize\n"
            "def start(config):\n    raise RuntimeError(config['why'])\n",
            r"auth\.py:5: initialize of plugin `p` failed: RuntimeError: because",
        ),
    ],
)
def test_a_broken_plugin_file_stops_the_start_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "auth.py").write_text(text)
    written = config(None, {"file": str(tmp_path / "auth.py"), "config": {"why": "because"}}, EVERY_WAY)
    (tmp_path / "nylon.yaml").write_text(json.dumps(written))
    gateway = Gateway.from_file(tmp_path / "nylon.yaml")
    with pytest.raises(PluginError, match=said) as info:
        gateway.start()
    assert "nylon.yaml:1" in str(info.value)
    assert "Traceback" not in str(info.value)
    assert not gateway.is_running


def test_an_entry_that_the_plugin_lacks_stops_the_start(origin: Origin) -> None:
    gateway = Gateway(config(origin, passing(), {"/x": "poool"}))
    with pytest.raises(ConfigError, match=r"(?s)unknown entry of plugin `p`: `poool`.*did you mean `pool`"):
        gateway.start()


# ---- plugins behind sockets ----


@pytest.mark.parametrize("execution", ["thread", "inline"])
def test_a_plugin_file_runs_every_phase_over_sockets(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, execution: str
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


def test_an_async_handler_reads_the_body_from_the_connection(origin: Origin) -> None:
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


def test_a_slow_client_does_not_use_up_the_handlers_time(origin: Origin) -> None:
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


def test_a_body_over_the_limit_is_413_even_if_the_handler_lets_the_error_escape(origin: Origin) -> None:
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
    origin: Origin, way: str, caplog: pytest.LogCaptureFixture
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
def test_a_late_handler_is_504_and_the_others_of_its_plugin_go_on(origin: Origin, way: str) -> None:
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


def test_a_blocked_pool_stops_no_other_route(origin: Origin) -> None:
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
def test_a_client_that_goes_away_closes_the_context(origin: Origin, way: str) -> None:
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


def test_more_calls_than_can_wait_are_refused_with_503(origin: Origin) -> None:
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
