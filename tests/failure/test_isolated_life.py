"""Processes of a plugin come up with the gateway, change with its configuration and end with it, whatever happens."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from isolated import PLUGIN, Isolated, isolated, isolated_config, left_over, policy, served
from isolated_plugin import WAYS
from support.client import Connection, request_bytes
from support.configs import Config
from support.processes import GatewayProcess
from support.waiting import eventually

from nylon import ConfigError, Gateway, GatewayError, NylonPlugin, PluginError
from nylon.control_command import described

MIB = 1 << 20
PID = served("pid", "pid")


# ---- how they come up ----


@pytest.mark.parametrize("how", WAYS)
def test_process_that_dies_in_initialize_is_an_error_at_start(how: str) -> None:
    ends = {"exit": "exited with code 3", "segfault": "SIGSEGV", "abort": "SIGABRT", "kill": "SIGKILL"}
    with pytest.raises(PluginError) as refused:
        Gateway(isolated_config(PID, plugin={"config": {"die": how}, "processes": 2})).start()
    assert ends[how] in str(refused.value)
    assert "before it was ready" in str(refused.value)
    assert "plugin `p`, configured in <dict>" in str(refused.value)
    assert left_over() == []


def test_error_of_initialize_names_file_and_line() -> None:
    with pytest.raises(PluginError, match=r"the port is taken") as refused:
        Gateway(isolated_config(PID, plugin={"config": {"raise": True}})).start()
    assert f"{PLUGIN}:" in str(refused.value)


def test_error_of_the_file_is_the_same_as_in_the_gateway(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("from nylon import NylonPlugin\nplugin = NylonPlugin(\n")

    def refusal(**more: object) -> str:
        config = isolated_config(PID)
        config["plugins"] = [{"name": "p", "type": "python", "file": str(file), **more}]
        with pytest.raises(PluginError) as refused:
            Gateway(config).start()
        return str(refused.value).split("\n  (plugin")[0]

    assert refusal(isolation="process") == refusal()


def test_unknown_entry_is_an_error_at_start() -> None:
    with pytest.raises(ConfigError, match="no-such"):
        Gateway(isolated_config(served("x", "no-such"))).start()
    assert left_over() == []


def test_plugin_that_cannot_start_can_be_left_out() -> None:
    plugin = {"config": {"die": "segfault"}, "on_load_error": "isolate"}
    with isolated(PID, plugin=plugin) as running:
        assert running.get("pid").status == 503
        assert "SIGSEGV" in running.status["reason"]


def test_object_cannot_be_taken_to_another_process() -> None:
    config = isolated_config(PID)
    config["plugins"] = [{"name": "p", "plugin": NylonPlugin(), "isolation": "process"}]
    with pytest.raises(ConfigError, match="given as an object"):
        Gateway(config).start()


def test_modules_are_found_where_the_gateway_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(PLUGIN.read_text())
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with isolated(PID, plugin={"file": None, "module": "only_here"}) as running:
        assert running.get("pid").status == 200


def test_interpreter_that_is_not_there_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(PluginError, match="/no/such/python"):
        Gateway(isolated_config(PID)).start()
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(PluginError, match=r"sys\.executable"):
        Gateway(isolated_config(PID)).start()


# ---- while they run ----


def test_calls_run_in_all_processes_at_once(tmp_path: Path) -> None:
    gather = served("gather", "gather", {"folder": str(tmp_path), "processes": 3})
    with isolated(gather, plugin={"processes": 3}) as running, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: running.get("gather"), range(3)))
        assert sorted(answer.json()["pid"] for answer in answers) == sorted(running.pids)


def test_large_bodies_travel_both_ways_beside_small_calls() -> None:
    body = hashlib.shake_128(b"seed").digest(20 * MIB)
    limits = {"max_body_bytes": 32 * MIB}
    with isolated(served("mirror", "mirror"), PID, limits=limits) as running, ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(running.get, "mirror", (), body) for _ in range(2)]
        while not all(one.done() for one in sent):
            assert running.get("pid").status == 200
        assert all(one.result().body == body for one in sent)


def test_processes_say_what_they_are() -> None:
    with isolated(PID, plugin={"processes": 2}) as running:
        status = running.status
        assert (status["kind"], status["isolation"]) == ("python", "process")
        lines = described(running.gateway.status())
        shown = [line.split(":")[0] for line in lines[-3:-1]]
        assert shown == [f"  process {pid}" for pid in running.pids]
        assert lines[-1] == "  processes that died: 0, calls run again: 0"
        titles = sorted(" ".join(psutil.Process(pid).cmdline()).strip() for pid in running.pids)
        assert titles == ["nylon: plugin p 1", "nylon: plugin p 2"]


def test_nothing_of_the_configuration_stands_in_the_arguments() -> None:
    plugin = {"config": {"password": "s3cr3t"}, "processes": 1}
    with isolated(PID, plugin=plugin) as running:
        (pid,) = running.pids
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"s3cr3t" not in environment + Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_process_that_is_started_again_runs_the_code_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "changing.py"
    file.write_text(PLUGIN.read_text())
    with isolated(PID, plugin={"file": str(file)}) as running:
        file.write_text("this is no Python")
        (pid,) = running.pids
        running.kill(pid)
        running.await_processes(1, without=pid)
        assert running.get("pid").status == 200


# ---- how they change ----


def test_reload_keeps_processes_that_did_not_change_and_replaces_the_others() -> None:
    with isolated(PID) as running:
        before = running.pids
        assert running.gateway.reload().kept == ["p"]
        assert running.pids == before
        for change in ({"processes": 2}, {"processes": 2, "config": {"a": 1}}):
            old = running.pids
            done = running.gateway.reload(isolated_config(PID, plugin=change))
            assert (done.started, done.ended) == (["p"], ["p"])
            new = running.await_processes(2)
            assert not set(new) & set(old)
            eventually(
                lambda old=old: not any(psutil.pid_exists(pid) for pid in old), "the end of the old ones"
            )
        in_process: Config = isolated_config(PID)
        del in_process["plugins"][0]["isolation"]
        assert running.gateway.reload(in_process).started == ["p"]
        assert running.get("pid").json()["pid"] == os.getpid()
        eventually(lambda: left_over() == [], "the end of the last ones")
        running.gateway.reload(isolated_config(PID))
        assert running.get("pid").json()["pid"] != os.getpid()


def test_request_that_runs_ends_in_the_process_where_it_began(tmp_path: Path) -> None:
    wait = served("wait", "wait", {"folder": str(tmp_path)})
    with isolated(wait, PID) as running, ThreadPoolExecutor(1) as pool:
        (before,) = running.pids
        waiting = pool.submit(running.get, "wait")
        eventually((tmp_path / "waiting").exists, "a handler that waits")
        running.gateway.reload(isolated_config(wait, PID, plugin={"config": {"a": 1}}))
        assert running.get("pid").json()["pid"] != before
        assert psutil.pid_exists(before)
        (tmp_path / "go").touch()
        assert waiting.result().json()["pid"] == before
        eventually(lambda: not psutil.pid_exists(before), "the end of the old process")


def test_refused_reload_leaves_the_processes_as_they_are() -> None:
    with isolated(PID) as running:
        before = running.pids
        with pytest.raises(PluginError, match="SIGABRT"):
            running.gateway.reload(isolated_config(PID, plugin={"config": {"die": "abort"}}))
        assert running.pids == before
        assert running.get("pid").json()["pid"] in before


# ---- how they end ----


def children(gateway: GatewayProcess) -> list[psutil.Process]:
    return eventually(lambda: psutil.Process(gateway.pid).children(), "its processes")


@pytest.mark.parametrize("busy", [False, True])
def test_gateway_that_is_killed_leaves_no_process_behind(busy: bool, tmp_path: Path) -> None:
    """Not even one whose only thread is in a handler and reads nothing."""
    held = served("it", "inline", {"folder": str(tmp_path)})
    gateway = GatewayProcess(isolated_config(held, plugin={"processes": 2}))
    with gateway, Connection(gateway.address) as client:
        its = children(gateway)
        assert len(its) == 2
        if busy:
            client.send(request_bytes("GET", "/it"))
            eventually((tmp_path / "inside").exists, "a handler")
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        _, alive = psutil.wait_procs(its, timeout=20)
        assert alive == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_everybody_leave_the_end_to_the_gateway(number: signal.Signals, tmp_path: Path) -> None:
    wait = served("wait", "wait", {"folder": str(tmp_path)})
    with isolated(wait) as running, ThreadPoolExecutor(1) as pool:
        (pid,) = running.pids
        assert os.getpgid(pid) != os.getpgid(0)
        waiting = pool.submit(running.get, "wait")
        eventually((tmp_path / "waiting").exists, "a handler that waits")
        os.kill(pid, number)
        (tmp_path / "go").touch()
        assert waiting.result().json() == {"pid": pid, "attempt": 1}
        assert running.get("wait").json()["pid"] == pid


def test_process_that_hangs_is_killed_once_the_grace_is_over() -> None:
    runtime = {"threads": 1, "grace_period_seconds": 0, "graceful_shutdown_timeout_seconds": 1}
    hang = served("it", "inline")
    with isolated(hang, plugin=policy(timeout_ms=200), runtime=runtime) as running:
        assert running.get("it").status == 504


def test_gateway_can_be_started_again() -> None:
    gateway = Gateway(isolated_config(PID))
    for _ in range(2):
        with gateway:
            assert Isolated(gateway).get("pid").status == 200
        assert left_over() == []


def test_stop_does_not_wait_for_processes_that_a_reload_still_starts(tmp_path: Path) -> None:
    hang = {"config": {"hang": str(tmp_path / "hangs")}}
    with isolated(PID) as running, ThreadPoolExecutor(1) as pool:
        reload = pool.submit(running.gateway.reload, isolated_config(PID, plugin=hang))
        eventually((tmp_path / "hangs").exists, "an initialize that hangs")
        running.gateway.stop()
        with pytest.raises(GatewayError, match="stopped"):
            reload.result(10)
        assert left_over() == []
