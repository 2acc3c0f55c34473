"""Gateways that are about to have a bad day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.place import NumberedOrigin
from supervised import APP, Supervised
from versions import Versions

from nylon.embedded import NatsServer
from nylon.testing.fixtures import StartWorker


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Start `run_workers` for a plugin's source; all ends with the test."""
    running = []

    def start(plugin_source: str = APP, **arguments: Any) -> Supervised:
        (tmp_path / "app.py").write_text(plugin_source)
        running.append(Supervised(tmp_path, **arguments))
        return running[-1]

    yield start
    for one in running:
        one.end()


@pytest.fixture
def versions(tmp_path: Path, nylon_nats: NatsServer, nylon_worker: StartWorker) -> Iterator[Versions]:
    """A gateway to be started in front of two versions of one plugin's workers."""
    with NumberedOrigin() as origin:
        yield Versions(tmp_path / "nylon.yaml", origin.address, nylon_nats.url, nylon_worker)


@pytest.fixture(scope="module")
def broker() -> Iterator[NatsServer]:
    """A broker of one test file's own."""
    with NatsServer() as server:
        yield server


@pytest.fixture(params=["hooked", "plain"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each way in which a worker takes its messages."""
    way: str = request.param
    return way
