"""The hosts: one gateway each, with every route of the suite, for the whole run.

A case takes the fixture `host` and runs on all of them. A case that cannot hold on one says so with
`@pytest.mark.not_on("python-inline", reason=...)`.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from routes import suite_config
from suite import Case, Host
from support.client import fetch
from support.origin import Origin
from support.processes import GatewayProcess, WorkerProcess
from support.waiting import eventually

HERE = Path(__file__).resolve().parent
HOSTS = ("python", "python-inline", "remote")
CONFIG = {"greeting": "hello"}
"""What the plugin's `initialize` gets."""

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "not_on(host, reason): a case that cannot hold on this host")


@pytest.fixture(scope="session", params=HOSTS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Each host in turn."""
    name: str = request.param
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin())
        worker = None
        sections: dict[str, Any] = {}
        if name == "remote":
            nats = request.getfixturevalue("nylon_nats")
            worker = stack.enter_context(
                WorkerProcess("entries:plugin", nats=nats.url, group="hosts", app_dir=HERE)
            )
            worker.await_serving()
            sections["messaging"] = [{"name": "nats", "servers": [nats.url]}]
            sections["more_entries"] = ("no-such-entry",)
            plugin = {"type": "messaging", "messaging": "nats", "group": "hosts"}
        else:
            execution = "inline" if name == "python-inline" else "thread"
            plugin = {"type": "python", "module": "entries:plugin", "execution": execution, "config": CONFIG}
        config = suite_config(origin.address, plugin, **sections)
        gateway = stack.enter_context(GatewayProcess(config, import_path=HERE))
        eventually(lambda: fetch(gateway.address, "GET", "/fine/ready").status == 200, "a route that works")
        yield Host(name, gateway, origin, worker)


@pytest.fixture
def case(host: Host, request: pytest.FixtureRequest) -> Case:
    """This test on this host."""
    for mark in request.node.iter_markers("not_on"):
        if host.name in mark.args:
            pytest.skip(mark.kwargs["reason"])
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return Case(host, f"{name}-{next(_numbers)}")
