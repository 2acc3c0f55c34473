"""What a case has in its hands: a host to run on, and a key by which everything of its own is told apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from places import HERE, HOSTS, Place
from support.client import Address, Answer, Fields, fetch
from support.configs import Config
from support.origin import Origin, Received
from support.processes import GatewayProcess, Process, peak_memory
from support.waiting import eventually
from unexpressed import UNEXPRESSED, Reasons, without_unexpressed


@dataclass
class Host:
    """A gateway whose plugin runs in one particular way, and the origin behind it."""

    name: str
    plugin: Config
    """The plugin's section in the gateway's configuration."""
    gateway: GatewayProcess
    origin: Origin
    worker: Process | None = None
    """The process that runs the handlers, where that is not the gateway."""
    language: str = "python"
    """What its handlers are written in."""
    omitted: Reasons = field(default_factory=dict)
    """Routes of the suite that are not there, and why."""

    @property
    def address(self) -> Address:
        """Where its gateway listens."""
        return self.gateway.address

    @property
    def handlers_memory(self) -> int:
        """The most resident bytes that the process which runs the handlers ever had."""
        if self.worker is not None:
            return self.worker.peak_memory
        processes = psutil.Process(self.gateway.pid).children()
        return (
            max(peak_memory(process.pid) for process in processes) if processes else self.gateway.peak_memory
        )

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
        place = Place(request, stack, f"{group}-{name}")
        plugin = HOSTS[name](place)
        config, omitted = without_unexpressed(
            configure(origin.address, plugin, place.sections), UNEXPRESSED.get(name, {})
        )
        gateway = stack.enter_context(GatewayProcess(config, import_path=HERE))
        eventually(lambda: fetch(gateway.address, "GET", ready).status == 200, "a route that works")
        yield Host(name, plugin, gateway, origin, place.worker, place.language, omitted)


class Case:
    """One test on one host: requests to its routes, under a key of its own (`rest` in the suite's patterns)."""

    def __init__(self, host: Host, key: str) -> None:
        self.host = host
        self.origin = host.origin
        self.address = host.address
        self.key = key

    def path(self, route: str) -> str:
        """The path of a route for this case; the origin sees the same one.

        Skips a case whose route is not there because the host's language cannot express it.
        """
        if route in self.host.omitted:
            pytest.skip(f"{route}: {self.host.omitted[route]}")
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
