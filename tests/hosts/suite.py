"""What a case has in its hands: a host to run on, and a key by which everything of its own is told apart."""

from __future__ import annotations

from typing import Any

from support.client import Answer, Fields, fetch
from support.origin import Origin, Received
from support.processes import GatewayProcess, Process


class Host:
    """A gateway whose plugin runs in one particular way, and the origin behind it."""

    def __init__(self, name: str, gateway: GatewayProcess, origin: Origin, worker: Process | None) -> None:
        self.name = name
        self.gateway = gateway
        self.origin = origin
        self._worker = worker
        self.address = gateway.address

    @property
    def handlers_log(self) -> str:
        """The log of the process that runs the handlers."""
        return (self._worker or self.gateway).log


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
