"""A handler that must deny everything does, under load too: not one request reaches the origin.

By default a short run; NYLON_FULL_LOAD=1 sends the full number.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from support.client import fetch, request_bytes
from support.configs import Config, gateway_config, route
from support.load import send_many
from support.origin import Origin
from support.processes import GatewayProcess, WorkerProcess
from support.waiting import eventually

from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent
FULL = bool(os.environ.get("NYLON_FULL_LOAD"))
REQUESTS = 200_000 if FULL else 10_000
CONNECTIONS = 256
MEMORY = 24 * 1024 * 1024


@pytest.mark.timeout(600 if FULL else 60)
@pytest.mark.parametrize("entry", ["deny", "deny-awaited"])
@pytest.mark.parametrize("host", ["python", "python-inline", "remote"])
def test_not_one_request_passes_and_memory_stays_flat(
    origin: Origin, nylon_nats: NatsServer, host: str, entry: str
) -> None:
    with contextlib.ExitStack() as stack:
        plugin: Config
        sections: Config = {}
        if host == "remote":
            group = f"deny-{entry}"
            worker = WorkerProcess("plugins:plugin", nats=nylon_nats.url, group=group, app_dir=HERE)
            stack.enter_context(worker)
            plugin = {"name": "p", "type": "messaging", "messaging": "nats", "group": group}
            sections["messaging"] = [{"name": "nats", "servers": [nylon_nats.url]}]
        else:
            execution = "inline" if host == "python-inline" else "thread"
            plugin = {"name": "p", "module": "plugins:plugin", "execution": execution}
        paths = [route("/{*rest}", middleware=[{"plugin": "p", "entry": entry}])]
        config = gateway_config(origin.address, paths, plugins=[plugin], **sections)
        gateway = stack.enter_context(GatewayProcess(config, import_path=HERE))
        eventually(lambda: fetch(gateway.address, "GET", "/x").status == 403, "a denying route")
        request = request_bytes("GET", "/secret")

        def send(count: int) -> None:
            statuses = send_many(gateway.address, request, count=count, connections=CONNECTIONS)
            # A worker that has all it can take answers 503: denied as well.
            assert set(statuses) <= {403, 503}, statuses
            assert statuses[403] > count / 2
            assert sum(statuses.values()) == count

        send(REQUESTS // 4)
        before = gateway.memory
        send(REQUESTS - REQUESTS // 4)
        assert gateway.memory - before < MEMORY
        assert origin.requests == []
