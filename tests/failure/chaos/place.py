"""Where chaos happens: broker, origin, gateway and workers, each in a process of its own but the origin.

The workers belong to one `nylon worker`, as in production, so that what dies is replaced as it would be there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from support.cluster import Cluster
from support.configs import Config, gateway_config, route
from support.origin import Line, Origin, Received, Reply
from support.processes import GatewayProcess, Process, WorkerProcess
from support.waiting import eventually

from chaos.account import Account, runs_of
from chaos.traffic import Traffic
from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent
GROUP = "chaos"


def answer(_: Line, request: Received) -> Reply:
    """Says which number it got, and what the plugin has added."""
    number = request.path.rpartition("/")[2]
    return Reply(200, [], f"origin {number} checked {request.header('x-checked')}".encode())


class NumberedOrigin(Origin):
    """An origin that gives every path the same treatment."""

    def _usual(self, line: Line, request: Received) -> Reply:
        return answer(line, request)


class Workers(WorkerProcess):
    """`nylon worker --workers N`, whose worker processes can be told apart."""

    def __init__(
        self,
        nats: str,
        record: Path,
        count: int,
        *,
        group: str = GROUP,
        app_dir: Path = HERE,
        arguments: tuple[str, ...] = (),
        environment: Config | None = None,
    ) -> None:
        super().__init__(
            "plugin.py:plugin",
            nats=nats,
            group=group,
            app_dir=app_dir,
            arguments=("--workers", str(count), *arguments),
            environment={"CHAOS_RECORD": str(record), **(environment or {})},
        )

    @property
    def pids(self) -> list[int]:
        """The worker processes that live now, the oldest first."""
        try:
            workers = psutil.Process(self.pid).children()
            return [worker.pid for worker in sorted(workers, key=lambda worker: worker.create_time())]
        except psutil.Error:
            return []

    def await_workers(self) -> None:
        """Wait until so many workers serve as were asked for."""
        eventually(lambda: "serving group" in self.log, "serving workers", within=30)

    def send(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one worker process, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Place:
    """Everything, up and running. A context manager."""

    def __init__(
        self,
        *,
        nats: NatsServer | Cluster | None = None,
        workers: int = 3,
        policy: Config | None = None,
        messaging: Config | None = None,
        started: Config | None = None,
    ) -> None:
        """`policy` and `messaging` are of the gateway's configuration; `started` says how the workers are started.

        `nats` may run already; it stops with the place.
        """
        self._stack = contextlib.ExitStack()
        self.nats = nats or NatsServer()
        self._workers = workers
        self._policy = policy or {}
        self._messaging = messaging or {}
        self._started = started or {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.record = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(self.nats)
            self.origin = stack.enter_context(NumberedOrigin())
            self.gateway = stack.enter_context(GatewayProcess(self.config()))
            self.workers = self.start_workers(self._workers, stack, **self._started)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def config(self, group: str = GROUP, **plugin: Any) -> Config:
        """The gateway's configuration."""
        entries = {"plugin": "chaos", "per_phase": self._policy} if self._policy else {"plugin": "chaos"}
        paths = [
            route(f"/{entry}/{{number}}", middleware=[{**entries, "entry": entry}])
            for entry in ("short", "closure")
        ]
        return gateway_config(
            self.origin.address,
            paths,
            messaging=[{"name": "nats", "servers": [self.nats.url], **self._messaging}],
            plugins=[{"name": "chaos", "messaging": "nats", "group": group, **plugin}],
        )

    def start_workers(self, count: int, stack: contextlib.ExitStack | None = None, **more: Any) -> Workers:
        """More workers, stopped with the place."""
        nats = more.pop("nats", self.nats.url)
        workers = (stack or self._stack).enter_context(Workers(nats, self.record, count, **more))
        workers.await_workers()
        return workers

    def traffic(self, entry: str = "short", *, rate: float = 150) -> Traffic:
        """A load on one entry, not yet begun."""
        return Traffic(self.gateway.address, f"/{entry}", rate=rate)

    def account(self, traffic: Traffic) -> Account:
        """Ends the load and settles; waits for the `logging` phases that are still under way."""
        answers = traffic.stop()

        def settled() -> bool:
            runs = runs_of(self.record)
            return all(run.done or not psutil.pid_exists(run.pid) for run in runs)

        eventually(settled, "handlers that have ended", within=30)
        return Account(answers, runs_of(self.record))


def processes_of(*processes: Process) -> str:
    """The logs, for a failure's text."""
    return "\n".join(process.log[-6000:] for process in processes)
