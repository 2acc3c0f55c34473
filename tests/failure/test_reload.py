"""A reload puts another configuration into the place of the running one, and nobody notices but by what is new."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from reload_site import Site, address, said
from support.client import Address, Connection, fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin
from support.waiting import eventually

from nylon import ConfigError, Gateway, GatewayError, NylonPlugin, PluginError
from nylon.testing.fixtures import StartWorker


@pytest.fixture
def site(tmp_path: Path, origin: Origin) -> Site:
    return Site(tmp_path, origin)


# ---- what changes and what stays ----


def test_unchanged_plugin_lives_on_and_the_new_routes_take_effect(site: Site) -> None:
    with site.start() as gateway:
        assert said(gateway) == "v1 0"
        config = site.config()
        config["routes"][0]["paths"][0]["path"] = ["/say", "/speak"]
        site.write(config)
        done = gateway.reload()
        assert (done.generation, done.started, done.kept, done.ended) == (2, [], ["app"], [])
        assert fetch(address(gateway), "GET", "/speak").body == b"v1 1"
    assert site.record == ["initialize v1", "shutdown v1"]


def test_changed_file_is_loaded_anew_and_the_old_plugin_is_shut_down(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with site.start() as gateway:
        assert said(gateway) == "v1 0"
        before = (site.folder / "app.py").stat()
        site.write_plugin("v2")
        # Of the same size and within the same second: a cached .pyc would count as fresh.
        os.utime(site.folder / "app.py", ns=(before.st_atime_ns, before.st_mtime_ns))
        done = gateway.reload()
        assert (done.started, done.kept, done.ended) == (["app"], [], ["app"])
        assert said(gateway) == "v2 0"
        eventually(lambda: "shutdown v1" in site.record, "the old plugin's shutdown")
        assert said(gateway) == "v2 1"
    assert site.record == ["initialize v1", "initialize v2", "shutdown v1", "shutdown v2"]


def test_exchange_keeps_its_plugin_for_all_phases_and_the_old_one_ends_after_it(
    site: Site, origin: Origin
) -> None:
    with site.start() as gateway, Connection(address(gateway)) as client:
        client.send(b"GET /_gate/held HTTP/1.1\r\nhost: a\r\n\r\n")
        origin.await_waiting("held")
        site.write_plugin("v2")
        gateway.reload()
        assert fetch(address(gateway), "GET", "/x").header("x-version") == "v2"
        assert "shutdown v1" not in site.record
        origin.open_gate("held")
        answer = client.read_answer("GET")
        assert (answer.status, answer.header("x-version")) == (204, "v1")
        eventually(lambda: "shutdown v1" in site.record, "the old plugin's shutdown")
        # The same connection goes on, under the new plan.
        assert client.request("GET", "/x").header("x-version") == "v2"


def test_old_plugin_ends_after_the_grace_period_whatever_still_runs(site: Site, origin: Origin) -> None:
    runtime = {"threads": 1, "grace_period_seconds": 2, "reload_grace_period_seconds": 0}
    with site.start(runtime=runtime) as gateway, Connection(address(gateway)) as client:
        client.send(b"GET /_gate/held HTTP/1.1\r\nhost: a\r\n\r\n")
        origin.await_waiting("held")
        site.write_plugin("v2")
        gateway.reload()
        eventually(lambda: "shutdown v1" in site.record, "the old plugin's shutdown")
        origin.open_gate("held")
        assert client.read_answer("GET").status == 503
        assert fetch(address(gateway), "GET", "/x").header("x-version") == "v2"


def test_plugin_with_another_config_is_started_anew(site: Site) -> None:
    with site.start() as gateway:
        assert said(gateway) == "v1 0"
        site.write(site.config(plugins=[{"name": "app", "file": "app.py", "config": {"a": 1}}]))
        assert gateway.reload().started == ["app"]
        assert said(gateway) == "v1 0"
        eventually(lambda: site.record.count("shutdown v1") == 1, "the old plugin's shutdown")


def test_object_goes_on_and_cannot_be_initialized_twice(origin: Origin) -> None:
    plugin = NylonPlugin()
    plugin.request_filter("stamp")(lambda ctx: ctx.next())

    def config(plugin: NylonPlugin, **more: object) -> Config:
        paths = [route("/{*rest}", middleware=[{"plugin": "p", "entry": "stamp"}])]
        return gateway_config(origin.address, paths, plugins=[{"name": "p", "plugin": plugin, **more}])

    with Gateway(config(plugin)) as gateway:
        assert gateway.reload().kept == ["p"]
        assert gateway.reload(config(plugin)).kept == ["p"]
        with pytest.raises(PluginError, match="runs already"):
            gateway.reload(config(plugin, config={"a": 1}))
        other = NylonPlugin()
        other.request_filter("stamp")(lambda ctx: ctx.response.set_status(403) and ctx.end())
        assert gateway.reload(config(other, config={"a": 1})).started == ["p"]
        assert fetch(address(gateway), "GET", "/x").status == 403
        # What is read again is what was given last.
        assert gateway.reload().kept == ["p"]


def test_embedded_broker_and_its_workers_stay(origin: Origin, nylon_worker: StartWorker) -> None:
    plugin = NylonPlugin()
    plugin.request_filter("stamp")(lambda ctx: ctx.response.set_status(403) and ctx.end())

    def config(*paths: str) -> Config:
        guarded = [route(path, middleware=[{"plugin": "p", "entry": "stamp"}]) for path in paths]
        messaging = [{"name": "m", "embedded": True}]
        plugins = [{"name": "p", "messaging": "m", "group": "embedded"}]
        return gateway_config(origin.address, guarded, messaging=messaging, plugins=plugins)

    with Gateway(config("/one")) as gateway:
        broker = gateway._brokers["m"].url
        nylon_worker(plugin, "embedded", servers=(broker,))
        eventually(lambda: fetch(address(gateway), "GET", "/one").status == 403, "an answer of the worker")
        assert gateway.reload(config("/one", "/two")).kept == ["p"]
        assert gateway._brokers["m"].url == broker
        assert fetch(address(gateway), "GET", "/two").status == 403


def test_what_only_a_start_can_change_is_a_warning(site: Site) -> None:
    with site.start() as gateway:
        runtime = {"threads": 2, "grace_period_seconds": 2, "upstream_keepalive_pool_size": 3}
        site.write(site.config(runtime=runtime, limits={"max_connections": 77}))
        for _ in range(2):  # the second time it is still not what runs
            warnings = gateway.reload().warnings
            assert [warning.split("`")[1] for warning in warnings] == [
                "runtime.threads",
                "runtime.upstream_keepalive_pool_size",
                "limits.max_connections",
            ]


# ---- what is refused ----


Break = Callable[[Site], object]


def broken_key(site: Site) -> None:
    site.write({**site.config(), "plugin": [], "limit": {}})


def lacking_entry(site: Site) -> None:
    paths = [route("/say", middleware=[{"plugin": "app", "entry": "sai"}])]
    site.write(site.config(routes=[{"name": "r", "route": {"type": "host", "value": "*"}, "paths": paths}]))


def plugin_with_a_syntax_error(site: Site) -> None:
    (site.folder / "app.py").write_text("def (:\n")


def missing_file(site: Site) -> None:
    (site.folder / "app.py").unlink()


def plugin_that_does_not_initialize(site: Site) -> None:
    path = site.folder / "app.py"
    path.write_text(
        path.read_text() + "\n@plugin.initialize\ndef no(config):\n    raise OSError('no disk')\n"
    )


@pytest.mark.parametrize(
    ("breaks", "kind", "says"),
    [
        (broken_key, ConfigError, r"unknown key `plugin`[\s\S]*unknown key `limit`"),
        (lacking_entry, ConfigError, r"nylon.yaml:\d+:\d+: unknown entry[\s\S]*did you mean `say`"),
        (plugin_with_a_syntax_error, PluginError, r"app.py:1:\d+: SyntaxError"),
        (missing_file, ConfigError, "no such file"),
        (plugin_that_does_not_initialize, PluginError, r"app.py:\d+: initialize of plugin `app` failed"),
    ],
)
def test_invalid_configuration_is_refused_and_the_old_one_goes_on(
    site: Site, breaks: Break, kind: type[Exception], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with site.start() as gateway:
        assert said(gateway) == "v1 0"
        breaks(site)
        for _ in range(2):
            with pytest.raises(kind, match=says):
                gateway.reload()
        assert "the reload was refused, the running configuration stays" in caplog.text
        assert said(gateway) == "v1 1"
        site.write_plugin("v2")
        site.write(site.config())
        assert gateway.reload().generation == 2
        assert said(gateway) == "v2 0"


def test_reload_of_a_gateway_that_does_not_run_is_refused(site: Site) -> None:
    gateway = site.start()
    with pytest.raises(GatewayError, match="does not run"):
        gateway.reload()


def test_stop_and_start_keep_the_configuration_of_the_last_reload(site: Site) -> None:
    gateway = site.start()
    with gateway:
        config = site.config()
        config["routes"][0]["paths"][0]["path"] = "/speak"
        site.write(config)
        gateway.reload()
    with gateway:
        assert fetch(address(gateway), "GET", "/speak").body == b"v1 0"


# ---- listeners ----


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_listener_of_an_unchanged_address_and_its_connections_stay(site: Site) -> None:
    with site.start() as gateway, Connection(address(gateway)) as client:
        where = gateway.urls
        for generation in (2, 3, 4):
            assert client.request("GET", "/say").status == 200
            site.write(
                site.config(http=["127.0.0.1:0", "127.0.0.1:0"] if generation == 3 else ["127.0.0.1:0"])
            )
            gateway.reload()
            assert gateway.urls[:1] == where
            assert len(gateway.urls) == (2 if generation == 3 else 1)
        # Writing down the port that 0 has come to changes nothing.
        host, port = address(gateway)
        site.write(site.config(http=[f"{host}:{port}"]))
        gateway.reload()
        assert client.request("GET", "/say").status == 200


def test_added_listener_opens_and_a_removed_one_lets_its_connections_finish(
    site: Site, origin: Origin
) -> None:
    with site.start(http=["127.0.0.1:0"]) as gateway:
        site.write(site.config(http=["127.0.0.1:0", "127.0.0.1:0"]))
        gateway.reload()
        first, second = address(gateway), address(gateway, 1)
        with Connection(second) as idle, Connection(second) as busy:
            assert idle.request("GET", "/say").status == 200
            busy.send(b"GET /_gate/held HTTP/1.1\r\nhost: a\r\n\r\n")
            origin.await_waiting("held")
            site.write(site.config(http=["127.0.0.1:0"]))
            gateway.reload()
            assert gateway.urls == [f"http://{first[0]}:{first[1]}"]
            assert idle.read_until_closed() == b""
            eventually(lambda: refuses(second), "the removed address takes no connection")
            origin.open_gate("held")
            answer = busy.read_answer("GET")
            assert (answer.status, answer.header("connection")) == (204, "close")
        assert fetch(first, "GET", "/say").status == 200


def refuses(address: Address) -> bool:
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_reload_onto_a_taken_address_is_refused_as_a_whole(site: Site, free_port: int) -> None:
    with site.start() as gateway:
        where = gateway.urls
        site.write_plugin("v2")
        site.write(site.config(http=["127.0.0.1:0", "127.0.0.1:0", f"127.0.0.1:{free_port}"]))
        with pytest.raises(GatewayError, match=rf"cannot listen on 127.0.0.1:{free_port}"):
            gateway.reload()
        assert gateway.urls == where and said(gateway) == "v1 0"
        assert site.record == ["initialize v1", "initialize v2", "shutdown v2"]


# ---- many of them ----


def what_is_open() -> tuple[int, int, int]:
    gc.collect()
    threads, files = (len(os.listdir(f"/proc/self/{what}")) for what in ("task", "fd"))  # noqa: PTH208
    return threads, threading.active_count(), files


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads and files in /proc")  # noqa: PTH112
def test_fifty_reloads_leave_no_thread_socket_or_memory(site: Site, origin: Origin) -> None:
    process = psutil.Process()

    def reload(number: int) -> None:
        site.write_plugin(f"v{number:03}")
        site.write(site.config(http=["127.0.0.1:0"] * (1 + number % 2)))
        gateway.reload()
        assert said(gateway) == f"v{number:03} 0"
        assert fetch(address(gateway), "GET", "/x").header("x-version") == f"v{number:03}"
        eventually(lambda: f"shutdown v{number - 1:03}" in site.record, "the old plugin's shutdown")

    site.write_plugin("v000")
    modules = len([name for name in sys.modules if name.startswith("_nylon_plugin_")])
    with site.start() as gateway:
        for number in range(1, 11):
            reload(number)
        before, memory = what_is_open(), process.memory_info().rss
        for number in range(11, 61):
            reload(number)
        eventually(
            lambda: all(now <= then for now, then in zip(what_is_open(), before, strict=True)),
            f"no more threads and files than before: {before}",
        )
        assert process.memory_info().rss - memory < 16 * 1024 * 1024
        assert gateway.status()["retiring"] == 0
        # The live plugin's module is left, and no other.
        assert len([name for name in sys.modules if name.startswith("_nylon_plugin_")]) == modules + 1


def test_reloads_at_once_wait_for_each_other(site: Site) -> None:
    with site.start() as gateway:
        generations: list[int] = []

        def reload() -> None:
            generations.append(gateway.reload().generation)

        threads = [threading.Thread(target=reload) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(generations) == list(range(2, 10))
        assert said(gateway) == "v1 0"
