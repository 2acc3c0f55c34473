"""A library that crashes ends the calls of its own process, and nothing of the gateway's."""

from __future__ import annotations

from pathlib import Path

import pytest
from isolated import Isolated, isolated, isolated_config, left_over, policy, served
from support.configs import Config
from support.native import c_library

from nylon import ConfigError, Gateway

SOURCE = Path(__file__).parent / "native" / "deadly.c"
DEADLY, STRAY, ANSWER = served("deadly", "deadly"), served("stray", "stray"), served("answer", "answer")


def library(**more: object) -> Config:
    """The plugin's section."""
    return {"type": "ffi", "file": str(c_library(SOURCE, sdk=True)), **more}


@pytest.mark.parametrize("how", ["signal", "null", "abort", "exit"])
def test_crash_in_a_library_ends_its_calls_only(how: str) -> None:
    with isolated(DEADLY, ANSWER, plugin=library()) as running:
        (before,) = running.pids
        answer = running.get("deadly", {"x-how": how})
        assert (answer.status, answer.json()["attempt"]) == (200, 2)
        (after,) = running.await_processes(1, without=before)
        assert answer.json()["pid"] == after
        assert running.get("answer").json() == {"pid": after, "attempt": 1}
        assert (running.status["kind"], running.status["restarts"]) == ("native", 1)


def test_stray_pointer_fails_by_the_policy() -> None:
    with isolated(STRAY, ANSWER, plugin=library(**policy(retry={"max": 0}))) as running:
        assert running.get("stray").status == 502
        assert running.get("answer").status == 200


@pytest.mark.parametrize(("how", "end"), [("signal", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", "code 7")])
def test_crash_in_initialize_is_an_error_at_start(how: str, end: str) -> None:
    with pytest.raises(ConfigError, match=end) as refused:
        Gateway(isolated_config(ANSWER, plugin=library(config=how))).start()
    assert "before it was ready" in str(refused.value)
    assert left_over() == []


def test_other_routes_work_without_a_library_that_crashes_in_initialize() -> None:
    plugin = library(config="signal", on_load_error="isolate")
    with Gateway(isolated_config(ANSWER, plugin=plugin)) as gateway:
        running = Isolated(gateway)
        assert running.get("answer").status == 503
        assert "SIGSEGV" in running.status["reason"]


def test_faults_of_a_library_are_told_as_in_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "no.so").write_bytes(b"no library")
    for plugin in (library(config="refuse"), library(file=str(tmp_path / "no.so"))):
        told = []
        for isolation in ({}, {"isolation": "process"}):
            config = isolated_config(ANSWER)
            config["plugins"] = [{"name": "p", **plugin, **isolation}]
            with pytest.raises(ConfigError) as refused:
                Gateway(config).start()
            told.append(str(refused.value).splitlines()[0].split("plugin `p`")[1])
        assert told[0] == told[1]
        assert plugin["file"] in told[0]
