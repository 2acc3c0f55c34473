"""Streams from workers when the client is slow or leaves, the worker dies or freezes, or the broker goes: what a client
gets is whole, or visibly broken off.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from streaming_plugin import PIECE
from support.client import Address, Connection, Truncated, fetch, request_bytes
from support.configs import gateway_config, route
from support.processes import GatewayProcess, WorkerProcess
from support.waiting import eventually

from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent
KIB, MIB = 1024, 1024 * 1024
WINDOW = MIB
GROUP = "streams"


@dataclass
class Setting:
    """A broker, a gateway, and a worker that streams."""

    broker: NatsServer
    gateway: GatewayProcess
    worker: WorkerProcess

    @property
    def address(self) -> Address:
        return self.gateway.address

    def status(self, key: str) -> dict[str, Any]:
        """What the worker says of the stream with this key."""
        answer: dict[str, Any] = fetch(self.address, "GET", f"/status/{key}").json()
        return answer

    def connections(self) -> list[dict[str, Any]]:
        """What the broker says of its connections."""
        with urllib.request.urlopen(f"{self.broker.monitoring_url}/connz") as answer:
            found: list[dict[str, Any]] = json.load(answer)["connections"]
        return found


@contextlib.contextmanager
def setting(timeout_ms: int = 30_000) -> Iterator[Setting]:
    """Everything up; a handler may write nothing for `timeout_ms`."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(NatsServer(monitoring=True))
        worker = stack.enter_context(
            WorkerProcess("streaming_plugin:plugin", nats=broker.url, group=GROUP, app_dir=HERE)
        )
        worker.await_serving()
        policy = {"request_filter": {"timeout_ms": timeout_ms, "retry": {"max": 0}}}
        names = ("stream", "status", "answer")
        services = [
            {"name": name, "service_type": "plugin", "plugin": {"name": "p", "entry": name}} for name in names
        ]
        plugin = {"name": "p", "type": "messaging", "messaging": "nats", "group": GROUP, "per_phase": policy}
        config = gateway_config(
            None,
            [route(f"/{name}/{{key}}", service=name) for name in names],
            services=services,
            plugins=[plugin],
            messaging=[{"name": "nats", "servers": [broker.url]}],
        )
        gateway = stack.enter_context(GatewayProcess(config))
        eventually(lambda: fetch(gateway.address, "GET", "/status/x").status == 200, "a route that works")
        yield Setting(broker, gateway, worker)


@pytest.fixture(scope="module")
def shared() -> Iterator[Setting]:
    """For tests that break nothing."""
    with setting() as everything:
        yield everything


@contextlib.contextmanager
def streaming(address: Address, key: str, size: int, **options: Any) -> Iterator[Connection]:
    """A stream whose head has come."""
    with Connection(address, **options) as connection:
        connection.send(request_bytes("GET", f"/stream/{key}?{size}"))
        assert connection.read_head()[0] == 200
        yield connection


def read_on(connection: Connection) -> bytes:
    """The rest of a body. Raises `Truncated` with it where the connection ends inside."""
    whole = bytearray()
    try:
        while chunk := connection.read_chunk():
            whole += chunk
    except Truncated as error:
        raise Truncated(bytes(whole) + error.received) from None
    return bytes(whole)


def expected(size: int) -> bytes:
    return b"".join(b"%-*d" % (PIECE, at) for at in range(0, size, PIECE))


def test_a_client_that_reads_100_kb_a_second_holds_the_worker_back(shared: Setting) -> None:
    """No more than a window is ever in the broker, whatever the worker could write."""
    size = 200 * MIB
    with streaming(shared.address, "slow", size, receive_buffer=64 * KIB) as connection:
        read, most, start = 0, 0, time.monotonic()
        while read < 300_000:
            read += len(connection.read_chunk())
            pending = [found["pending_bytes"] for found in shared.connections()]
            most = max(most, *pending)
            time.sleep(max(0.0, read / 100_000 - (time.monotonic() - start)))
        # Beside the window: one write, what two kernels keep for one connection, and what hyper gathers.
        assert shared.status("slow")["written"] <= read + WINDOW + 7 * MIB
        assert most <= WINDOW + 64 * KIB
        connection.reset()
    eventually(lambda: shared.status("slow")["ended"] == "closed", "a worker that noticed")
    assert shared.worker.memory < 400 * MIB
    assert "Traceback" not in shared.worker.log, "a client that leaves is no error"


def test_many_streams_at_once_do_not_mix(shared: Setting) -> None:
    size = 2 * MIB
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(streaming(shared.address, f"many-{number}", size)) for number in range(4)
        ]
        assert all(read_on(client) == expected(size) for client in clients)


def test_a_worker_that_is_killed_leaves_a_body_that_is_visibly_broken_off() -> None:
    """Long before `timeout_ms`: the server says that nobody is there."""
    with setting(timeout_ms=60_000) as everything:
        with streaming(everything.address, "k", 100 * MIB, receive_buffer=64 * KIB) as connection:
            got = connection.read_chunk()
            os.kill(everything.worker.working_pid, signal.SIGKILL)
            with pytest.raises(Truncated) as caught:
                read_on(connection)
            assert len(got) + len(caught.value.received) < 100 * MIB
        eventually(lambda: "worker_died" in everything.gateway.log, "the reason in the gateway's log")


def test_a_worker_that_freezes_is_waited_for_as_long_as_the_phase_allows_and_lives_on() -> None:
    with setting(timeout_ms=1_000) as everything:
        with streaming(everything.address, "f", 100 * MIB, receive_buffer=64 * KIB) as connection:
            connection.read_chunk()
            worker = everything.worker.working_pid
            os.kill(worker, signal.SIGSTOP)
            with pytest.raises(Truncated):
                read_on(connection)
            os.kill(worker, signal.SIGCONT)
        eventually(lambda: everything.status("f")["ended"] == "closed", "a worker that noticed")
        with streaming(everything.address, "again", MIB) as connection:
            assert read_on(connection) == expected(MIB)


def test_a_worker_that_drains_ends_its_streams_first() -> None:
    size = 20 * MIB
    with setting() as everything:
        with streaming(everything.address, "d", size, receive_buffer=64 * KIB) as connection:
            got = connection.read_chunk()
            everything.worker.signal(signal.SIGTERM)
            assert got + read_on(connection) == expected(size)
        assert everything.worker.wait() == 0


def test_a_broker_that_restarts_never_makes_a_body_look_complete_that_is_not() -> None:
    size = 20 * MIB
    with setting(timeout_ms=5_000) as everything:
        with streaming(everything.address, "b", size, receive_buffer=64 * KIB) as connection:
            got = connection.read_chunk()
            everything.broker.restart()
            try:
                got += read_on(connection)
            except Truncated as error:
                got += error.received
                assert expected(size).startswith(got)
            else:
                assert got == expected(size)
        eventually(
            lambda: fetch(everything.address, "GET", "/answer/x?1000000").body == bytes(1_000_000),
            "a worker that is back",
        )
