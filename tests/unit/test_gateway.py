"""`nylon.Gateway`: its life in a process, and what a wrong configuration says."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from support.in_process import EVERY_WAY, EchoOrigin, config, get, passing, wait_until

from nylon import (
    ConfigError,
    Gateway,
    GatewayError,
    PluginError,
)

# ---- its life ----


def test_a_gateway_starts_and_stops_fifty_times_and_leaves_nothing(origin: EchoOrigin) -> None:
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


def test_several_gateways_run_at_once_each_with_its_plugin(origin: EchoOrigin) -> None:
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


def test_starting_twice_is_an_error_and_changes_nothing(origin: EchoOrigin) -> None:
    with Gateway(config(origin, passing(), EVERY_WAY)) as gateway:
        with pytest.raises(GatewayError, match="runs already"):
            gateway.start()
        assert get(gateway, "/pool")[0] == 200


def test_a_taken_port_is_one_clear_line_and_nothing_is_left(origin: EchoOrigin) -> None:
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


def test_wait_returns_when_another_thread_stops(origin: EchoOrigin) -> None:
    gateway = Gateway(config(origin, passing(), EVERY_WAY))
    with gateway:
        assert gateway.wait(0.01) is False
        stopper = threading.Timer(0.05, gateway.stop)
        stopper.start()
        assert gateway.wait() is True
        stopper.join()


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


def test_a_forked_child_is_told_that_the_gateway_is_not_its_own(origin: EchoOrigin) -> None:
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


def test_an_entry_that_the_plugin_lacks_stops_the_start(origin: EchoOrigin) -> None:
    gateway = Gateway(config(origin, passing(), {"/x": "poool"}))
    with pytest.raises(ConfigError, match=r"(?s)unknown entry of plugin `p`: `poool`.*did you mean `pool`"):
        gateway.start()
