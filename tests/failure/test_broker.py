"""A broker that is not there: the gateway serves what needs none, fails closed where it does, and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import fetch
from support.configs import Config, route
from support.origin import Origin
from support.processes import GatewayProcess, Start, WorkerProcess
from support.waiting import eventually

from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    """A broker of this test's own, which has a port but does not run."""
    server = NatsServer()
    server.start()
    server.stop()
    yield server
    server.stop()


def guarded(start: Start, nats: NatsServer) -> GatewayProcess:
    policy = {"request_filter": {"timeout_ms": 1000}}
    plugin: Config = {
        "name": "p",
        "type": "messaging",
        "messaging": "nats",
        "group": "g",
        "per_phase": policy,
    }
    paths = [
        route("/guarded/{*rest}", middleware=[{"plugin": "p", "entry": "stamp"}]),
        route("/open/{*rest}"),
    ]
    return start(paths, plugins=[plugin], messaging=[{"name": "nats", "servers": [nats.url]}])


def test_a_gateway_starts_without_its_broker_and_fails_closed(
    origin: Origin, start: Start, nats: NatsServer
) -> None:
    gateway = guarded(start, nats)
    assert fetch(gateway.address, "GET", "/open/x").status == 200
    answer = fetch(gateway.address, "GET", "/guarded/x")
    assert answer.status == 503
    assert origin.received("/guarded/x") == []


def test_gateway_and_worker_find_a_broker_that_comes_later(
    origin: Origin, start: Start, nats: NatsServer
) -> None:
    gateway = guarded(start, nats)
    with WorkerProcess("plugins:plugin", nats=nats.url, group="g", app_dir=HERE) as worker:
        assert fetch(gateway.address, "GET", "/guarded/x").status == 503
        nats.restart()
        eventually(
            lambda: fetch(gateway.address, "GET", "/guarded/x").status == 200, "a working route", within=20
        )
        assert worker.running


def test_gateway_and_worker_survive_a_broker_that_dies(
    origin: Origin, start: Start, nats: NatsServer
) -> None:
    nats.restart()
    gateway = guarded(start, nats)
    with WorkerProcess("plugins:plugin", nats=nats.url, group="g", app_dir=HERE) as worker:
        eventually(lambda: fetch(gateway.address, "GET", "/guarded/up").status == 200, "a working route")
        nats.kill()
        reached = len(origin.requests)
        assert fetch(gateway.address, "GET", "/guarded/down").status in (503, 504)
        assert fetch(gateway.address, "GET", "/open/x").status == 200
        assert len(origin.requests) == reached + 1
        nats.restart()
        eventually(
            lambda: fetch(gateway.address, "GET", "/guarded/up").status == 200, "a working route", within=20
        )
        assert worker.running


def test_a_group_without_a_worker_is_never_a_pass(origin: Origin, start: Start, nats: NatsServer) -> None:
    nats.restart()
    gateway = guarded(start, nats)
    assert fetch(gateway.address, "GET", "/guarded/x").status in (503, 504)
    assert origin.received("/guarded/x") == []
