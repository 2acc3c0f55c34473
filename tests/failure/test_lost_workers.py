"""What becomes of a request whose worker is killed or frozen, or whose broker goes away."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from support import golang
from support.client import Answer, fetch
from support.configs import Config, route
from support.origin import Origin
from support.processes import GatewayProcess, Process, Start
from support.waiting import eventually

from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent
PROGRAMS: dict[str, Callable[[], list[str | Path]]] = {
    "python": lambda: [sys.executable, HERE / "held.py"],
    "go": lambda: [golang.go_program(golang.ENTRIES, "./held")],
}
"""The command of a worker in each language."""


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    """A broker of this test's own."""
    with NatsServer() as server:
        yield server


class Scene:
    """A gateway, workers by name, and requests that are under way."""

    def __init__(
        self, program: list[str | Path], gateway: GatewayProcess, nats: NatsServer, folder: Path
    ) -> None:
        self.program = program
        self.gateway = gateway
        self.folder = folder
        self.workers: dict[str, Process] = {}
        self._nats = nats
        self._clients = ThreadPoolExecutor(4)

    def worker(self, name: str) -> None:
        """Start one and wait until it serves."""
        command = [*self.program, self._nats.url, name, self.folder]
        self.workers[name] = Process(command, cwd=HERE)
        eventually(lambda: "serving group" in self.workers[name].log, "a serving worker")

    def ask(self, path: str) -> Future[Answer]:
        """Send a request; its answer comes later."""
        return self._clients.submit(fetch, self.gateway.address, "GET", path)

    def await_word(self, word: str) -> None:
        """Wait until a handler says this."""
        eventually((self.folder / word).exists, f"the word {word}")

    def go(self) -> None:
        """Let every handler go on."""
        (self.folder / "go").touch()

    def kill(self, name: str) -> None:
        """As the kernel does when memory runs out."""
        self.workers[name].signal(signal.SIGKILL)
        self.workers[name].wait()

    def end(self) -> None:
        """End the workers, those that are stopped too."""
        for worker in self.workers.values():
            if worker.running:
                worker.signal(signal.SIGCONT)
            worker.stop()
        self._clients.shutdown()


def guard(plugin: str, entry: str) -> list[Config]:
    return [{"plugin": plugin, "entry": entry}]


@pytest.fixture(params=PROGRAMS)
def scene(request: pytest.FixtureRequest, start: Start, nats: NatsServer, tmp_path: Path) -> Iterator[Scene]:
    """Default policies; `/once` is behind the same handler with `idempotent: false`."""
    plugin: Config = {"type": "messaging", "messaging": "nats", "group": "g"}
    once = {"per_phase": {"request_filter": {"idempotent": False}}}
    gateway = start(
        [
            route("/held", middleware=guard("p", "held")),
            route("/once", middleware=guard("once", "held")),
            route("/session/{*rest}", rewrite="/_gate", middleware=guard("p", "session")),
            route("/logged/{*rest}", rewrite="/_gate", middleware=guard("p", "logged")),
        ],
        plugins=[{"name": "p", **plugin}, {"name": "once", **plugin, **once}],
        messaging=[{"name": "nats", "servers": [nats.url]}],
    )
    scene = Scene(PROGRAMS[request.param](), gateway, nats, tmp_path)
    yield scene
    scene.end()


def test_killed_workers_request_is_answered_by_another(scene: Scene) -> None:
    scene.worker("a")
    answer = scene.ask("/held")
    scene.await_word("ran-1.a")
    scene.worker("b")
    scene.kill("a")
    scene.await_word("ran-2.b")
    scene.go()
    assert json.loads(answer.result().body) == {"worker": "b", "attempt": 2}


def test_frozen_workers_request_is_answered_by_another(scene: Scene) -> None:
    scene.worker("a")
    answer = scene.ask("/held")
    scene.await_word("ran-1.a")
    scene.worker("b")
    scene.workers["a"].signal(signal.SIGSTOP)
    scene.await_word("ran-2.b")
    scene.go()
    assert json.loads(answer.result().body) == {"worker": "b", "attempt": 2}
    # The queue group has the frozen one still, and these do not meet it.
    for _ in range(20):
        assert json.loads(scene.ask("/held").result().body) == {"worker": "b", "attempt": 1}


def test_request_that_must_not_run_twice_ends_with_its_worker(scene: Scene) -> None:
    scene.worker("a")
    answer = scene.ask("/once")
    scene.await_word("ran-1.a")
    scene.worker("b")
    scene.kill("a")
    assert answer.result().status == 502
    scene.go()
    assert json.loads(scene.ask("/once").result().body) == {"worker": "b", "attempt": 1}
    assert not (scene.folder / "ran-2.b").exists()


def test_request_of_a_session_ends_with_the_worker_that_has_its_closures(
    scene: Scene, origin: Origin
) -> None:
    scene.worker("a")
    answer = scene.ask("/session/later")
    origin.await_waiting("later")
    scene.worker("b")
    scene.kill("a")
    origin.open_gate("later")
    assert answer.result().status == 502
    answer = scene.ask("/session/later")
    assert (answer.result().status, answer.result().header("x-seen")) == (204, "b")


def test_requests_of_an_outage_are_answered_when_the_broker_is_back(scene: Scene, nats: NatsServer) -> None:
    scene.worker("a")
    before = scene.ask("/held")
    scene.await_word("ran-1.a")
    nats.kill()
    eventually(lambda: "lost the broker" in scene.gateway.log, "the loss to be noticed")
    during = scene.ask("/held")
    scene.go()
    nats.restart()
    assert json.loads(before.result().body) == {"worker": "a", "attempt": 1}, "its reply waited on the worker"
    assert json.loads(during.result().body) == {"worker": "a", "attempt": 1}


def test_logging_that_is_due_in_an_outage_is_delivered_after_it(
    scene: Scene, origin: Origin, nats: NatsServer
) -> None:
    scene.worker("a")
    answer = scene.ask("/logged/later")
    origin.await_waiting("later")
    nats.kill()
    eventually(lambda: "lost the broker" in scene.gateway.log, "the loss to be noticed")
    origin.open_gate("later")
    assert answer.result().status == 204
    nats.restart()
    scene.await_word("logged.a")
