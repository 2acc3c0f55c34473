"""The pytest fixtures: what they start works, and is gone when the test is."""

import http.client
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from nylon import ConfigError, GatewayError, NatsPlugin, NylonPlugin, PluginError, WorkerError


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("GET", parts.path or "/", headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def hello_plugin(plugin: NylonPlugin) -> NylonPlugin:
    @plugin.request_filter("hello")
    def hello(ctx):
        ctx.response.body_text(f"hello from {os.getpid()}")
        return ctx.end()

    return plugin


def answering(plugin: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A configuration whose only service is the plugin's entry `hello`."""
    return {
        "plugins": [{"name": "p", **plugin}],
        "services": [{"name": "s", "service_type": "plugin", "plugin": {"name": "p", "entry": "hello"}}],
        "routes": [
            {
                "name": "r",
                "route": {"type": "host", "value": "*"},
                "paths": [{"path": "/{*path}", "service": {"name": "s"}}],
            }
        ],
        **more,
    }


def on_nats(url: str, group: str) -> dict[str, Any]:
    broker = {"name": "nats", "type": "nats", "servers": [url]}
    return answering({"messaging": "nats", "group": group}, messaging=[broker])


def test_gateway_runs_a_plugin_object(nylon_gateway):
    gateway = nylon_gateway(answering({"plugin": hello_plugin(NylonPlugin())}))
    assert get(gateway.urls[0] + "/x") == (200, f"hello from {os.getpid()}".encode())


def test_gateways_run_side_by_side_from_dict_text_and_file(nylon_gateway, tmp_path: Path):
    (tmp_path / "greet.py").write_text(
        "from nylon import NylonPlugin\nplugin = NylonPlugin()\n"
        "@plugin.request_filter('hello')\n"
        "def hello(ctx):\n    ctx.response.body_text('from a file')\n    ctx.end()\n"
    )
    text = """
http: [127.0.0.1:0]
plugins: [{name: p, file: greet.py}]
services: [{name: s, service_type: plugin, plugin: {name: p, entry: hello}}]
routes:
  - {name: r, route: {type: host, value: "*"}, paths: [{path: "/{*path}", service: {name: s}}]}
"""
    (tmp_path / "own.yaml").write_text(text)
    from_dict = nylon_gateway(answering({"plugin": hello_plugin(NylonPlugin())}))
    from_text = nylon_gateway(text)
    from_file = nylon_gateway(tmp_path / "own.yaml")
    assert len({from_dict.urls[0], from_text.urls[0], from_file.urls[0]}) == 3
    assert get(from_text.urls[0] + "/x") == get(from_file.urls[0] + "/x") == (200, b"from a file")


def test_wrong_configuration_is_the_tests_error(nylon_gateway):
    with pytest.raises(ConfigError, match="did you mean"):
        nylon_gateway(answering({"plugin": hello_plugin(NylonPlugin())}, midleware_groups={}))


def test_plugin_object_is_served_over_nats_from_this_process(nylon_gateway, nylon_nats, nylon_worker):
    nylon_worker(hello_plugin(NylonPlugin()), group="fixture_thread")
    gateway = nylon_gateway(on_nats(nylon_nats.url, "fixture_thread"))
    assert get(gateway.urls[0] + "/x") == (200, f"hello from {os.getpid()}".encode())


def test_nats_plugin_brings_its_own_options(nylon_gateway, nylon_nats, nylon_worker):
    nylon_worker(hello_plugin(NatsPlugin(nylon_nats.url, "fixture_own")))
    gateway = nylon_gateway(on_nats(nylon_nats.url, "fixture_own"))
    assert get(gateway.urls[0] + "/x")[0] == 200


def test_named_plugin_is_served_by_processes_of_its_own(nylon_gateway, nylon_nats, nylon_worker, tmp_path):
    (tmp_path / "greet.py").write_text(
        "import os\nfrom nylon import NylonPlugin\nplugin = NylonPlugin()\n"
        "@plugin.request_filter('hello')\n"
        "def hello(ctx):\n    ctx.response.body_text(str(os.getpid()))\n    ctx.end()\n"
    )
    workers = nylon_worker("greet:plugin", group="fixture_processes", workers=2, app_dir=str(tmp_path))
    pids = set(workers.pids.values())
    assert len(pids) == 2
    gateway = nylon_gateway(on_nats(nylon_nats.url, "fixture_processes"))
    answers = {get(gateway.urls[0] + "/x") for _ in range(64)}
    assert answers == {(200, str(pid).encode()) for pid in pids}


def test_stopped_worker_is_gone(nylon_gateway, nylon_nats, nylon_worker):
    worker = nylon_worker(hello_plugin(NylonPlugin()), group="fixture_stop")
    gateway = nylon_gateway(on_nats(nylon_nats.url, "fixture_stop"))
    assert get(gateway.urls[0] + "/x")[0] == 200
    worker.stop()
    worker.stop()
    assert get(gateway.urls[0] + "/x")[0] in (503, 504)


def test_worker_that_cannot_serve_is_the_tests_error(nylon_worker, tmp_path):
    plugin = hello_plugin(NylonPlugin())

    @plugin.initialize
    def fail(config):
        raise ValueError("no database")

    with pytest.raises(PluginError, match="no database"):
        nylon_worker(plugin, group="fixture_fails")
    with pytest.raises(WorkerError, match="no_such_module"):
        nylon_worker("no_such_module:plugin", group="fixture_fails", app_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="group"):
        nylon_worker(hello_plugin(NylonPlugin()))


LEAVES_NOTHING = """
import http.client, os, threading
from pathlib import Path
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.request_filter("hello")
def hello(ctx):
    ctx.response.body_text("hi")
    ctx.end()

def test_something_that_fails(nylon_gateway, nylon_nats, nylon_worker):
    gateway = nylon_gateway({
        "plugins": [{"name": "p", "plugin": plugin}],
        "services": [{"name": "s", "service_type": "plugin", "plugin": {"name": "p", "entry": "hello"}}],
        "routes": [{"name": "r", "route": {"type": "host", "value": "*"},
                    "paths": [{"path": "/{*path}", "service": {"name": "s"}}]}],
    })
    nylon_worker(plugin, group="leaves_nothing")
    group = nylon_worker("worker_app:plugin", group="leaves_nothing", app_dir=os.getcwd())
    lines = [str(nylon_nats.pid), gateway.urls[0], *map(str, group.pids.values())]
    Path("started").write_text("\\n".join(lines))
    assert not "a failing test"

def test_afterwards_no_thread_is_left():
    names = [thread.name for thread in threading.enumerate()]
    assert [name for name in names if name.startswith("nylon") and name != "nylon-nats-server"] == []
"""


def test_nothing_is_left_of_a_test_that_failed(tmp_path: Path):
    (tmp_path / "worker_app.py").write_text(
        "from nylon import NylonPlugin\nplugin = NylonPlugin()\n@plugin.logging('log')\ndef log(ctx): pass\n"
    )
    (tmp_path / "test_inner.py").write_text(LEAVES_NOTHING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_inner.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "not 'a failing test'" in done.stdout
    nats_pid, url, *worker_pids = (tmp_path / "started").read_text().splitlines()
    for pid in (nats_pid, *worker_pids):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    with pytest.raises(ConnectionRefusedError):
        get(url + "/x")


def test_no_gateway_error_hides_a_port_in_use(nylon_gateway):
    gateway = nylon_gateway(answering({"plugin": hello_plugin(NylonPlugin())}))
    taken = gateway.urls[0].removeprefix("http://")
    with pytest.raises(GatewayError, match=taken):
        nylon_gateway(answering({"plugin": hello_plugin(NylonPlugin())}, http=[taken]))
