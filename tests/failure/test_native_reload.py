"""A native plugin under a reload: its library changes, its configuration changes, and no exchange notices."""

from __future__ import annotations

import gc
import shutil
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest
from native_site import NativeSite
from reload_site import address, said
from support.client import Connection, fetch
from support.configs import gateway_config, route
from support.origin import Origin
from support.waiting import eventually

from nylon import ConfigError, Gateway


@pytest.fixture
def site(tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> NativeSite:
    monkeypatch.setenv("VERSIONED_RECORD", "")
    return NativeSite(tmp_path, origin)


def test_unchanged_library_is_taken_over_and_not_called(site: NativeSite) -> None:
    with site.start() as gateway:
        assert said(gateway) == "v1 0"
        # Touched, or built again to the same bytes: nothing has changed.
        site.replace("v1")
        done = gateway.reload()
        assert (done.generation, done.started, done.kept, done.ended) == (2, [], ["app"], [])
        assert said(gateway) == "v1 1"
    assert site.record == ["initialize v1", "shutdown v1"]


@pytest.mark.parametrize("change", ["replace", "overwrite"])
def test_changed_library_serves_new_exchanges_and_the_old_one_ends_after_its_last(
    site: NativeSite, origin: Origin, change: str
) -> None:
    with site.start() as gateway, Connection(address(gateway)) as client:
        client.send(b"GET /_gate/held HTTP/1.1\r\nhost: a\r\n\r\n")
        origin.await_waiting("held")
        getattr(site, change)("v2")
        # What runs goes on running, whatever has become of the file.
        assert fetch(address(gateway), "GET", "/x").header("x-version") == "v1"
        done = gateway.reload()
        assert (done.started, done.kept, done.ended) == (["app"], [], ["app"])
        assert fetch(address(gateway), "GET", "/x").header("x-version") == "v2"
        assert "shutdown v1" not in site.record
        origin.open_gate("held")
        answer = client.read_answer("GET")
        assert (answer.status, answer.header("x-version")) == (204, "v1")
        eventually(lambda: "shutdown v1" in site.record, "the old library's shutdown")
        assert client.request("GET", "/x").header("x-version") == "v2"
    assert site.record == ["initialize v1", "initialize v2", "shutdown v1", "shutdown v2"]


def test_changed_config_is_for_new_exchanges_and_never_for_those_that_run(
    site: NativeSite, origin: Origin
) -> None:
    with site.start({"config": {"n": 1}}) as gateway, Connection(address(gateway)) as client:
        assert said(gateway) == "v1 0"
        client.send(b"GET /_gate/held HTTP/1.1\r\nhost: a\r\n\r\n")
        origin.await_waiting("held")
        site.write(site.config({"config": {"n": 2}}))
        assert gateway.reload().started == ["app"]
        assert fetch(address(gateway), "GET", "/x").header("x-config") == '{"n":2}'
        assert said(gateway) == "v1 0"
        origin.open_gate("held")
        assert client.read_answer("GET").header("x-config") == '{"n":1}'
        eventually(lambda: 'shutdown v1 {"n":1}' in site.record, "the old one's shutdown")


def test_old_library_ends_after_the_grace_period_whatever_still_runs(
    site: NativeSite, origin: Origin
) -> None:
    runtime = {"threads": 1, "grace_period_seconds": 2, "reload_grace_period_seconds": 0}
    runtime["graceful_shutdown_timeout_seconds"] = 1
    with site.start(runtime=runtime) as gateway, Connection(address(gateway)) as client:
        client.send(b"GET /_gate/held HTTP/1.1\r\nhost: a\r\n\r\n")
        origin.await_waiting("held")
        site.replace("v2")
        gateway.reload()
        eventually(lambda: "shutdown v1" in site.record, "the old library's shutdown")
        origin.open_gate("held")
        # Its session is over: the rest of the exchange fails, and never passes.
        assert client.read_answer("GET").status == 503
        assert fetch(address(gateway), "GET", "/x").header("x-version") == "v2"


def test_library_that_cannot_initialize_is_refused_and_the_old_one_goes_on(site: NativeSite) -> None:
    with site.start() as gateway:
        assert said(gateway) == "v1 0"
        site.write(site.config({"config": {"refuse": True}}))
        with pytest.raises(ConfigError, match=r"nylon\.yaml:\d+:\d+: plugin `app`: .*could not initialize"):
            gateway.reload()
        site.write(site.config())
        site.library.write_bytes(b"#!/bin/sh\n")
        with pytest.raises(ConfigError, match="it is no shared library, but a script"):
            gateway.reload()
        assert said(gateway) == "v1 1"
        site.replace("v2")
        config = site.config()
        config["services"][-1]["plugin"]["entry"] = "sai"
        site.write(config)
        with pytest.raises(ConfigError, match=r"unknown entry[\s\S]*did you mean `say`"):
            gateway.reload()
        assert said(gateway) == "v1 2"
        site.write(site.config())
        assert gateway.reload().started == ["app"]
        assert said(gateway) == "v2 0"


def test_two_plugins_over_one_file_have_data_of_their_own(site: NativeSite, origin: Origin) -> None:
    plugins = [{"name": name, "file": str(site.library), "config": {"name": name}} for name in ("one", "two")]
    services = [
        {"name": name, "service_type": "plugin", "plugin": {"name": name, "entry": "say"}}
        for name in ("one", "two")
    ]
    paths = [
        route("/one", "one"),
        route("/two", "two"),
        route("/{*rest}", middleware=[{"plugin": "two", "entry": "stamp"}]),
    ]
    with Gateway(gateway_config(origin.address, paths, plugins=plugins, services=services)) as gateway:
        assert [fetch(address(gateway), "GET", "/one").body for _ in range(2)] == [b"v1 0", b"v1 1"]
        assert fetch(address(gateway), "GET", "/two").body == b"v1 0"
        assert fetch(address(gateway), "GET", "/x").header("x-config") == '{"name":"two"}'
    assert sorted(site.record) == sorted(
        f'{what} v1 {{"name":"{name}"}}' for name in ("one", "two") for what in ("initialize", "shutdown")
    )


def test_reloads_under_load_cost_no_answer_and_each_is_of_one_version(site: NativeSite) -> None:
    versions: Counter[str] = Counter()
    wrong: list[object] = []
    stop = threading.Event()

    def ask(target: tuple[str, int], path: str) -> None:
        with Connection(target) as client:
            while not stop.is_set():
                answer = client.request("GET", path)
                version = answer.header("x-version")
                if answer.status != 200 or version not in ("v1", "v2"):
                    wrong.append(answer)
                versions[str(version)] += 1

    with site.start() as gateway:
        paths = ("/x", "/later") * 2
        clients = [threading.Thread(target=ask, args=(address(gateway), path)) for path in paths]
        for client in clients:
            client.start()
        try:
            for round_ in range(12):
                version = "v2" if round_ % 2 == 0 else "v1"
                site.replace(version)
                assert gateway.reload().started == ["app"]
                assert fetch(address(gateway), "GET", "/x").header("x-version") == version
                seen = versions[version]
                eventually(lambda v=version, n=seen: versions[v] > n + 20, "requests under the new library")
        finally:
            stop.set()
            for client in clients:
                client.join()
        assert wrong == []
    ends = [
        site.record.count(f"{what} {version}")
        for what in ("initialize", "shutdown")
        for version in ("v1", "v2")
    ]
    assert ends == [7, 6, 7, 6]


def test_reloads_leave_nothing_behind(site: NativeSite) -> None:
    process = psutil.Process()

    def mapped() -> int:
        maps = Path("/proc/self/maps").read_text().splitlines()
        return len({line.split()[4] for line in maps if "/memfd:app.so" in line})

    with site.start() as gateway:

        def reload(rounds: int) -> None:
            for round_ in range(rounds):
                site.replace("v2" if round_ % 2 == 0 else "v1")
                assert gateway.reload().started == ["app"]
                assert said(gateway).endswith(" 0")
                assert fetch(address(gateway), "GET", "/later").status == 200
            eventually(lambda: gateway.status()["retiring"] == 0, "the end of what was replaced")
            eventually(lambda: mapped() == 1, "the unloading of what was replaced")

        reload(10)
        gc.collect()
        files, memory = process.num_fds(), process.memory_info().rss
        reload(60)
        gc.collect()
        assert process.num_fds() <= files + 3
        # A single copy of the library has some 40 kB of code and data.
        assert process.memory_info().rss <= memory + 2_500_000
    assert mapped() == 0


def test_status_shows_what_runs(site: NativeSite) -> None:
    with site.start() as gateway:
        assert said(gateway) == "v1 0"
        [plugin] = gateway.status()["plugins"]
        assert (plugin["name"], plugin["kind"], plugin["ready"]) == ("app", "native", True)
        assert (plugin["abi"], plugin["sessions"], plugin["refused_calls"]) == (2, 0, {})


def test_file_of_a_library_may_go_away_while_it_runs(site: NativeSite) -> None:
    with site.start() as gateway:
        site.library.unlink()
        assert said(gateway) == "v1 0"
        with pytest.raises(ConfigError, match="no such file"):
            gateway.reload()
        assert said(gateway) == "v1 1"
        shutil.copy(site.build("v2"), site.library)
        assert gateway.reload().started == ["app"]
