"""A process of a plugin dies: its calls go elsewhere or fail by their policy, and nothing else is noticed."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from isolated import isolated, isolated_config, policy, served
from isolated_plugin import WAYS
from support.client import Answer, Connection, Truncated, request_bytes
from support.configs import Config, route
from support.origin import Origin
from support.waiting import eventually

from nylon import Gateway, PluginError


@pytest.mark.parametrize("how", WAYS)
def test_call_of_a_process_that_dies_goes_to_another_one(how: str) -> None:
    with isolated(served("die", "die", {"how": how}), plugin={"processes": 2}) as running:
        before = running.pids
        answer = running.get("die")
        assert (answer.status, answer.json()["attempt"]) == (200, 2)
        assert answer.json()["pid"] in before
        running.await_processes(2)
        assert (running.status["restarts"], running.status["retried"]) == (1, 1)


def test_call_waits_for_the_next_process_where_there_is_no_other() -> None:
    with isolated(served("die", "die", {"how": "segfault"})) as running:
        (before,) = running.pids
        answer = running.get("die")
        assert (answer.status, answer.json()["attempt"]) == (200, 2)
        assert answer.json()["pid"] != before


def test_call_that_may_not_run_twice_fails_with_its_process() -> None:
    die = served("die", "die", {"how": "kill"})
    with isolated(die, served("pid", "pid"), plugin=policy(idempotent=False)) as running:
        assert running.get("die").status == 502
        assert running.status["retried"] == 0
        assert running.get("pid").json()["attempt"] == 1


def test_call_that_kills_every_process_fails_after_its_retries() -> None:
    die = served("die", "die", {"how": "exit", "until": 99})
    once = policy(retry={"max": 1}, timeout_ms=20_000)
    with isolated(die, served("pid", "pid"), plugin=once) as running:
        assert running.get("die").status == 502
        assert running.status["retried"] == 1
        assert running.get("pid").status == 200


def test_other_calls_of_a_process_that_dies_go_on_elsewhere(tmp_path: Path) -> None:
    wait = served("wait", "wait", {"folder": str(tmp_path)})
    with isolated(wait, served("pid", "pid")) as running:
        (before,) = running.pids
        answers: list[Answer] = []
        client = threading.Thread(target=lambda: answers.append(running.get("wait")))
        client.start()
        eventually((tmp_path / "waiting").exists, "a handler that waits")
        running.kill(before)
        (after,) = running.await_processes(1, without=before)
        (tmp_path / "go").touch()
        client.join(10)
        (answer,) = answers
        assert (answer.status, answer.json()) == (200, {"pid": after, "attempt": 2})


def closure(**more: object) -> Config:
    return route("/{*rest}", middleware=[{"plugin": "p", "entry": "closure", **more}])


def test_session_moves_in_its_first_phase_and_no_later(origin: Origin) -> None:
    with isolated(origin=origin.address, paths=[closure()], plugin={"processes": 2}) as running:
        assert int(running.get("x").header("x-pid") or 0) in running.pids
        moved = running.get("x", {"x-die-first": "1"})
        assert moved.status == 200
        assert moved.header("x-pid")
        running.await_processes(2)
        # Its closures are gone with its process: nobody else can run the phase.
        assert running.get("x", {"x-die-later": "1"}).status == 502
        running.await_processes(2)
        assert running.get("x").status == 200


def test_lost_session_goes_on_without_the_plugin_where_that_is_wanted(origin: Origin) -> None:
    path = closure(per_phase={"response_filter": {"on_error": "continue"}})
    with isolated(origin=origin.address, paths=[path]) as running:
        answer = running.get("x", {"x-die-later": "1"})
        assert (answer.status, answer.header("x-pid")) == (200, None)


def test_stream_of_a_process_that_dies_is_cut_and_looks_cut() -> None:
    with isolated(served("stream", "stream")) as running, Connection(running.address) as client:
        with pytest.raises(Truncated) as cut:
            client.request("GET", "/stream")
        assert b"the beginning" in cut.value.received
        assert running.status["retried"] == 0


def test_frozen_process_is_judged_by_the_time_limit_and_left_alone_then() -> None:
    stop = served("stop", "stop-answering")
    plugin = {"processes": 2, **policy(timeout_ms=1000)}
    with isolated(stop, served("pid", "pid"), plugin=plugin) as running:
        assert running.get("stop").status == 504
        (frozen,) = (process["pid"] for process in running.status["processes"] if process["silent"])
        assert {running.get("pid").json()["pid"] for _ in range(6)} == set(running.pids) - {frozen}
        os.kill(frozen, signal.SIGCONT)
        eventually(
            lambda: not any(process["silent"] for process in running.status["processes"]), "a word from it"
        )
        assert {running.get("pid").json()["pid"] for _ in range(6)} == set(running.pids)


def test_frozen_process_does_not_outlive_the_gateway() -> None:
    with isolated(served("stop", "stop-answering"), plugin=policy(timeout_ms=300)) as running:
        assert running.get("stop").status == 504


def test_no_answer_is_wrong_while_processes_are_killed() -> None:
    with isolated(served("digest", "digest"), plugin={"processes": 2}) as running:
        wrong: list[object] = []
        stop = threading.Event()
        asked = 0

        def ask(client: int) -> None:
            nonlocal asked
            with Connection(running.address) as connection:
                for number in range(100_000):
                    name = f"{client}-{number}"
                    answer = connection.request("GET", "/digest", {"x-number": name})
                    expected = hashlib.sha256(name.encode()).hexdigest()
                    if (answer.status, answer.body.decode()) != (200, expected):
                        wrong.append((name, answer))
                    asked += 1
                    if stop.is_set():
                        return

        clients = [threading.Thread(target=ask, args=(client,)) for client in range(4)]
        for client in clients:
            client.start()
        for _ in range(6):
            seen = asked
            eventually(lambda seen=seen: asked > seen + 50, "answers")
            (victim, *_) = running.await_processes(2)
            running.kill(victim)
            running.await_processes(2, without=victim)
        stop.set()
        for client in clients:
            client.join(10)
        assert not wrong, wrong[:3]
        assert running.status["restarts"] == 6


def test_restarts_leave_nothing_behind() -> None:
    own = psutil.Process()
    with isolated(served("pid", "pid")) as running:

        def restart() -> None:
            (pid,) = running.await_processes(1)
            running.kill(pid)
            running.await_processes(1, without=pid)

        restart()
        files, threads = own.num_fds(), own.num_threads()
        for _ in range(3):
            restart()
        assert own.num_fds() <= files
        assert own.num_threads() <= threads
        zombies = [child for child in own.children() if child.status() == psutil.STATUS_ZOMBIE]
        assert zombies == []
        assert running.get("pid").status == 200


def test_unavailable_at_once_where_no_process_comes_up_in_time(tmp_path: Path) -> None:
    record = tmp_path / "starts"
    config = {"record": str(record), "starts": 1}
    die = served("die", "die", {"how": "exit", "until": 99})
    plugin = {"config": config, **policy(retry={"max": 0}, timeout_ms=2000)}
    with isolated(die, served("pid", "pid"), plugin=plugin) as running:
        assert running.get("die").status == 502
        eventually(lambda: len(record.read_text().splitlines()) > 3, "starts that fail")
        assert running.get("pid").status == 503
        assert running.status["ready"] is False
        assert "exited with code 3 before it was ready" in running.status["reason"]


def test_process_that_sends_nonsense_is_an_error_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = set(psutil.Process().children())
    for sent, why in (("\\0\\0\\0\\3abc", "makes no sense"), ("\\377\\377\\377\\377", "over its limit")):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\nprintf '{sent}' >&0\nexec sleep 60\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        with pytest.raises(PluginError, match=why):
            Gateway(isolated_config(served("pid", "pid"))).start()
        assert set(psutil.Process().children()) <= others


def test_death_is_noticed_although_something_holds_the_socket_open(tmp_path: Path) -> None:
    with isolated(served("it", "leave-behind", {"folder": str(tmp_path)})) as running:
        answer = running.get("it")
        copy = int((tmp_path / "copy").read_text())
        os.kill(copy, signal.SIGKILL)
        assert (answer.status, answer.json()["attempt"]) == (200, 2)


def test_handler_whose_client_has_left_is_cancelled_in_its_process(tmp_path: Path) -> None:
    with isolated(served("it", "linger", {"folder": str(tmp_path)}), served("pid", "pid")) as running:
        with Connection(running.address) as client:
            client.send(request_bytes("GET", "/it"))
            eventually((tmp_path / "begun").exists, "a handler that waits")
        eventually((tmp_path / "cancelled").exists, "its end")
        assert running.get("pid").status == 200
        assert [process["calls"] for process in running.status["processes"]] == [0]


def test_calls_for_a_frozen_process_do_not_pile_up(tmp_path: Path) -> None:
    body = bytes(100_000)
    with isolated(served("mirror", "mirror"), plugin=policy(timeout_ms=200)) as running:
        (pid,) = running.pids
        os.kill(pid, signal.SIGSTOP)
        held = []
        with ThreadPoolExecutor(16) as pool:
            for _ in range(4):
                answers = list(pool.map(lambda _: running.get("mirror", (), body), range(48)))
                assert {answer.status for answer in answers} == {504}
                held.append(psutil.Process().memory_info().rss)
        # What the first calls took, allocators and all, is enough for the others.
        assert held[-1] < held[1] + 32 * len(body), held
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: running.get("mirror", (), body).status == 200, "an answer")
