"""What a case has in its hands: a host to run on, and a key by which everything of its own is told apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.client import Address, Answer, Fields, fetch
from support.configs import Config
from support.origin import Origin, Received
from support.processes import GatewayProcess, Process, WorkerProcess
from support.waiting import eventually

HERE = Path(__file__).resolve().parent
HOSTS = ("python", "python-inline", "remote", "remote-plain")
"""`remote-plain` is a worker on nats-py's public API alone: the reference for the path that is not."""
CONFIG = {"greeting": "hello"}
"""What the plugin's `initialize` gets."""


class Host:
    """A gateway whose plugin runs in one particular way, and the origin behind it."""

    def __init__(self, name: str, gateway: GatewayProcess, origin: Origin, worker: Process | None) -> None:
        self.name = name
        self.gateway = gateway
        self.origin = origin
        self.worker = worker
        self.address = gateway.address

    @property
    def handlers_log(self) -> str:
        """The log of the process that runs the handlers."""
        return (self.worker or self.gateway).log


@contextlib.contextmanager
def running_host(
    request: pytest.FixtureRequest,
    configure: Callable[[Address, Config, Config], Config],
    group: str,
    ready: str,
) -> Iterator[Host]:
    """The host that the fixture `request` is for, once the path `ready` works.

    `configure` makes the gateway's configuration from the origin's address, how the plugin runs, and the sections that
    this needs.
    """
    name: str = request.param
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin())
        worker = None
        sections: Config = {}
        if name.startswith("remote"):
            nats = request.getfixturevalue("nylon_nats")
            group = f"{group}-{name}"
            transport = "plain" if name == "remote-plain" else "hooked"
            worker = stack.enter_context(
                WorkerProcess(
                    "entries:plugin",
                    nats=nats.url,
                    group=group,
                    app_dir=HERE,
                    arguments=("--transport", transport),
                )
            )
            worker.await_serving()
            sections["messaging"] = [{"name": "nats", "servers": [nats.url]}]
            plugin: Config = {"type": "messaging", "messaging": "nats", "group": group}
        else:
            execution = "inline" if name == "python-inline" else "thread"
            plugin = {"type": "python", "module": "entries:plugin", "execution": execution, "config": CONFIG}
        config = configure(origin.address, plugin, sections)
        gateway = stack.enter_context(GatewayProcess(config, import_path=HERE))
        eventually(lambda: fetch(gateway.address, "GET", ready).status == 200, "a route that works")
        yield Host(name, gateway, origin, worker)


class Case:
    """One test on one host: requests to its routes, under a key of its own (`rest` in the suite's patterns)."""

    def __init__(self, host: Host, key: str) -> None:
        self.host = host
        self.origin = host.origin
        self.address = host.address
        self.key = key

    def path(self, route: str) -> str:
        """The path of a route for this case; the origin sees the same one."""
        return f"/{route}/{self.key}"

    def send(
        self, method: str, route: str, headers: Fields = (), body: bytes | None = None, *, query: str = ""
    ) -> Answer:
        """Ask for a route on a connection of its own."""
        return fetch(self.address, method, self.path(route) + (f"?{query}" if query else ""), headers, body)

    def get(self, route: str, headers: Fields = (), *, query: str = "") -> Answer:
        """GET a route."""
        return self.send("GET", route, headers, query=query)

    def forwarded(self, route: str) -> list[Received]:
        """What of it reached the origin, under the path that the client asked for."""
        return self.origin.received(self.path(route))

    def seen(self, route: str, headers: Fields = (), **more: Any) -> Received:
        """GET a route and return what the origin received."""
        answer = self.get(route, headers, **more)
        assert answer.status == 200, answer
        (received,) = self.forwarded(route)
        return received

    def told(self, count: int = 1) -> list[Any]:
        """What handlers told the origin under this case's key, once it is `count` things."""
        return self.origin.await_told(self.key, count)
