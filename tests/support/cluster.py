"""Three nats-servers that are one broker, each of which can be killed and come back."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.request
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from nylon.embedded import NatsServer
from support.waiting import eventually


class Cluster:
    """`size` nodes that know each other. A context manager."""

    def __init__(self, size: int = 3) -> None:
        self._size = size
        self.nodes: list[NatsServer] = []

    @property
    def url(self) -> str:
        """All nodes, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    @property
    def running(self) -> list[NatsServer]:
        """The nodes that live."""
        return [node for node in self.nodes if node.running]

    def start(self) -> Self:
        """Start all nodes, and return when each knows the others; does nothing if they run."""
        if not self.nodes:
            for _ in range(self._size):
                self.nodes.append(self._join())
            self._await_whole()
        return self

    def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.stop()

    def restart(self, node: NatsServer) -> None:
        """Bring a node that was killed back, on the port that it had."""
        self.nodes[self.nodes.index(node)] = self._join(node.port)
        self._await_whole()

    def node_of(self, name: str, among: Sequence[NatsServer] = ()) -> NatsServer | None:
        """The node with a client whose name begins so, or None; `among` leaves out nodes that cannot answer."""
        for node in among or self.running:
            if any(client["name"].startswith(name) for client in _clients(node)):
                return node
        return None

    def _join(self, port: int = 0) -> NatsServer:
        routes = json.dumps([node.cluster_url for node in self.running])
        config = f'cluster {{ name: test, listen: "127.0.0.1:-1", routes: {routes} }}\n'
        return NatsServer(port=port, monitoring=True, config=config).start()

    def _await_whole(self) -> None:
        count = len(self.running)
        eventually(lambda: all(len(_known_to(node)) == count for node in self.running), "a whole cluster")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _clients(node: NatsServer) -> list[dict[str, Any]]:
    """The node's connections, as its monitoring has them; none where it is just being killed."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"{node.monitoring_url}/connz", timeout=5) as answer,
    ):
        return [{"name": "", **client} for client in json.load(answer)["connections"]]
    return []


def _known_to(node: NatsServer) -> list[str]:
    """The nodes that it tells clients of."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as connection:
        line = connection.makefile("rb").readline()
    return json.loads(line.removeprefix(b"INFO ")).get("connect_urls", [])
