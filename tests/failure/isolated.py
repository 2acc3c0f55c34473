"""A gateway of this process, and a plugin of its own processes, which tests do away with."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from support.client import Address, Answer, Fields, fetch
from support.configs import Config, gateway_config, route
from support.waiting import eventually

from nylon import Gateway

PLUGIN = Path(__file__).with_name("isolated_plugin.py")


def policy(**request_filter: Any) -> Config:
    """What the plugin's section says of `request_filter`."""
    return {"per_phase": {"request_filter": request_filter}}


def served(path: str, entry: str, payload: Config | None = None) -> tuple[Config, Config]:
    """A service that an entry of the plugin answers, and its route."""
    service = {
        "name": path,
        "service_type": "plugin",
        "plugin": {"name": "p", "entry": entry, "payload": payload or {}},
    }
    return service, route(f"/{path}", service=path)


def isolated_config(
    *entries: tuple[Config, Config],
    origin: Address | None = None,
    paths: list[Config] | None = None,
    plugin: Config | None = None,
    **sections: Any,
) -> Config:
    """A configuration with the plugin in processes of its own; `plugin` changes its section."""
    section = {"name": "p", "type": "python", "file": str(PLUGIN), "isolation": "process", **(plugin or {})}
    return gateway_config(
        origin,
        [*(path for _, path in entries), *(paths or [])],
        services=[service for service, _ in entries],
        plugins=[section],
        **sections,
    )


def left_over() -> list[psutil.Process]:
    """The processes of plugins that this process has; it may have others, for other tests."""
    signs = ("nylon: plugin", "nylon.isolation")
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if child.status() == psutil.STATUS_ZOMBIE or any(sign in command for sign in signs):
                found.append(child)
    return found


class Isolated:
    """A running gateway, and what its status says of the plugin's processes."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        host, port = gateway.urls[0].removeprefix("http://").rsplit(":", 1)
        self.address = (host, int(port))

    def get(self, path: str, headers: Fields = (), body: bytes | None = None) -> Answer:
        """Ask for a path, or send a body there."""
        method = "GET" if body is None else "POST"
        return fetch(self.address, method, f"/{path}", headers, body)

    @property
    def status(self) -> dict[str, Any]:
        """What `nylon status` says of the plugin."""
        plugins = self.gateway.status().get("plugins", [])
        return dict(*plugins)

    @property
    def pids(self) -> list[int]:
        """The processes that take calls."""
        return [process["pid"] for process in self.status.get("processes", [])]

    def await_processes(self, count: int, *, without: int | None = None) -> list[int]:
        """Wait until so many take calls."""
        return eventually(
            lambda: pids if len(pids := self.pids) == count and without not in pids else None,
            f"{count} processes",
        )

    def kill(self, pid: int) -> None:
        """End a process at once."""
        assert pid in self.pids
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def isolated(*entries: tuple[Config, Config], **more: Any) -> Iterator[Isolated]:
    """Start a gateway; the arguments are those of `isolated_config`."""
    with Gateway(isolated_config(*entries, **more)) as gateway:
        running = Isolated(gateway)
        yield running
        pids = running.pids
    assert not [pid for pid in pids if psutil.pid_exists(pid)], "processes outlived their gateway"
