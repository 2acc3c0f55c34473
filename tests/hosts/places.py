"""Where the suite's plugin can run: one function for each host, and the table of them.

A function starts what its host needs and returns the plugin's section of the gateway's configuration. Most cases run
on every host, so a new one costs the suite one line in `HOSTS` and what it takes to run its cases. What a host's
language cannot express is in `unexpressed.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import golang
from support.configs import Config
from support.native import announced, c_library, rust_library
from support.processes import Process, ProgramWorker, WorkerProcess

HERE = Path(__file__).resolve().parent
CONFIG = {"greeting": "hello"}
"""What the plugin's `initialize` gets."""


class Place:
    """What a host may use to come to life."""

    def __init__(self, request: pytest.FixtureRequest, stack: contextlib.ExitStack, group: str) -> None:
        self._request = request
        self._stack = stack
        self.group = group
        """The queue group of its workers."""
        self.worker: Process | None = None
        """The process that runs the handlers, where that is not the gateway."""
        self.language = "python"
        """What the handlers are written in."""
        self.sections: Config = {}
        """What the configuration has beside the plugin's section."""

    def work(self, worker: Process) -> None:
        """Let a worker's process run until the host ends."""
        self.worker = self._stack.enter_context(worker)

    @property
    def nats(self) -> str:
        """The URL of the run's NATS server."""
        url: str = self._request.getfixturevalue("nylon_nats").url
        return url

    def messaging(self) -> Config:
        """The plugin's section for workers of `group`; adds the broker to `sections`."""
        self.sections["messaging"] = [{"name": "nats", "servers": [self.nats]}]
        return {"type": "messaging", "messaging": "nats", "group": self.group}


def python(_: Place) -> Config:
    """In the gateway's process, on its pool and its loop."""
    return {"type": "python", "module": "entries:plugin", "config": CONFIG}


def python_inline(place: Place) -> Config:
    """In the gateway's process, on its data-plane threads."""
    return {**python(place), "execution": "inline"}


def python_process(place: Place) -> Config:
    """In a process of its own."""
    return {**python(place), "isolation": "process"}


def remote(place: Place) -> Config:
    """On a worker behind NATS."""
    return python_worker(place, "hooked")


def remote_plain(place: Place) -> Config:
    """On a worker that uses nats-py's public API alone: the reference for the path that does not."""
    return python_worker(place, "plain")


def python_worker(place: Place, transport: str) -> Config:
    """On a worker with this way to the broker."""
    worker = WorkerProcess(
        "entries:plugin",
        nats=place.nats,
        group=place.group,
        app_dir=HERE,
        arguments=("--transport", transport),
    )
    place.work(worker)
    worker.await_serving()
    return place.messaging()


def remote_go(place: Place) -> Config:
    """On a worker that is a program in Go, of the same source as the library of native-go."""
    place.language = "go"
    worker = ProgramWorker(golang.go_program(golang.ENTRIES, "./worker"), nats=place.nats, group=place.group)
    place.work(worker)
    worker.await_serving()
    return place.messaging()


def native_c(place: Place) -> Config:
    """In the gateway's process, as a shared library written in C."""
    library = c_library(*sorted((HERE / "native").glob("*.c")), sdk=True)
    return native(place, "c", library)


def native_rust(place: Place) -> Config:
    """In the gateway's process, as a library made with sdk/rust."""
    return native(place, "rust", rust_library("nylon-suite-plugin"))


def native_process(place: Place) -> Config:
    """In a process of its own, as the library in C."""
    return {**native_c(place), "isolation": "process"}


def native_go(place: Place) -> Config:
    """In the gateway's process, as a library in Go, of the same source as the worker of remote-go."""
    return native(place, "go", golang.go_library(golang.ENTRIES, "./library"))


def native(place: Place, language: str, library: Path) -> Config:
    """In the gateway's process, as this library."""
    place.language = language
    return {"type": "ffi", "file": str(library), "config": CONFIG}


HOSTS: dict[str, Callable[[Place], Config]] = {
    "python": python,
    "python-inline": python_inline,
    "python-process": python_process,
    "remote": remote,
    "remote-plain": remote_plain,
    "remote-go": remote_go,
    "native-c": native_c,
    "native-process": native_process,
    "native-rust": native_rust,
    "native-go": native_go,
}


def listed(plugin: Config, ask: Callable[[str], Any]) -> set[str]:
    """The entries that a running host's plugin has, by its own account.

    `ask` gets the answer of a worker to a NATS subject.
    """
    if plugin["type"] == "python":
        from entries import plugin as source

        return set(source.entries)
    if plugin["type"] == "ffi":
        return announced(Path(plugin["file"]))
    assert plugin["type"] == "messaging", plugin
    metadata = ask(f"$SRV.INFO.nylon-{plugin['group']}")["metadata"]
    prefix = "nylon.entry."
    return {name.removeprefix(prefix) for name in metadata if name.startswith(prefix)}
