"""Pytest fixtures for tests that go through real sockets.

Pytest finds them by itself once Nylon is installed (the `pytest11` entry point). The module imports nothing
of Nylon at its head, so that a test run which uses none of them pays nothing. Every fixture stops what it
started, also when the test fails.

    def test_key_is_asked_for(nylon_gateway):
        gateway = nylon_gateway({
            "plugins": [{"name": "auth", "plugin": plugin}],        # the object itself
            "services": [...],
            "routes": [...],
        })
        assert httpx.get(gateway.urls[0] + "/x").status_code == 401

    def test_same_on_a_worker(nylon_gateway, nylon_nats, nylon_worker):
        nylon_worker(plugin, group="auth")
        gateway = nylon_gateway({
            "messaging": [{"name": "nats", "type": "nats", "servers": [nylon_nats.url]}],
            "plugins": [{"name": "auth", "messaging": "nats", "group": "auth"}],
            ...
        })
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from nylon import Gateway, NylonPlugin
    from nylon.embedded import NatsServer
    from nylon.testing.workers import WorkerThread
    from nylon.worker_group import WorkerGroup


class StartGateway(Protocol):
    """What the fixture `nylon_gateway` gives."""

    def __call__(self, config: Mapping[str, Any] | str | Path) -> Gateway:
        """Start a gateway; see the fixture."""


class StartWorker(Protocol):
    """What the fixture `nylon_worker` gives."""

    def __call__(
        self, plugin: NylonPlugin | str, group: str | None = None, *, workers: int = 1, **options: Any
    ) -> WorkerThread | WorkerGroup:
        """Start a worker; see the fixture."""


@pytest.fixture(scope="session")
def nylon_nats() -> Iterator[NatsServer]:
    """A real nats-server on loopback, shared by the tests of one run.

    Tests that use it keep apart by their group: a group is part of every subject. A test that stops or
    restarts a broker takes one of its own, `nylon.embedded.NatsServer`.

        def test_something(nylon_nats):
            plugin = NatsPlugin(nylon_nats.url, "a_group_of_this_test")
    """
    from nylon.embedded import NatsServer

    with NatsServer() as server:
        yield server


@pytest.fixture
def nylon_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """A function that starts a gateway and returns it: `gateway.urls[0]` is where it listens.

    It takes the configuration as a dict (a plugin may be given as an object), as YAML text, or as the path of a file.
    A dict without `http` listens on a free port of 127.0.0.1. All gateways are stopped after the test.

        def test_key_is_asked_for(nylon_gateway):
            gateway = nylon_gateway({"plugins": [{"name": "auth", "plugin": plugin}], ...})
    """
    from nylon.gateway import Gateway

    with contextlib.ExitStack() as stack:
        started = 0

        def start(config: Mapping[str, Any] | str | Path) -> Gateway:
            nonlocal started
            started += 1
            if isinstance(config, str):
                path = tmp_path / f"nylon-{started}.yaml"
                path.write_text(config, encoding="utf-8")
                config = path
            if isinstance(config, Path):
                return stack.enter_context(Gateway.from_file(config))
            return stack.enter_context(Gateway({"http": ["127.0.0.1:0"], **config}))

        yield start


@pytest.fixture
def nylon_worker(request: pytest.FixtureRequest) -> Iterator[StartWorker]:
    """A function that starts a worker and returns once it serves.

    It takes a plugin object, which then runs in a thread of this process (one worker, quick, and the test can look
    into it), or `"module:attribute"`, which runs in `workers` processes of its own, as `nylon worker` does. `options`
    are fields of `WorkerOptions`; the broker is `nylon_nats` unless `servers` (or a `NatsPlugin`) says otherwise. The
    result has `stop()`. All workers are drained after the test.

        def test_same_on_a_worker(nylon_gateway, nylon_nats, nylon_worker):
            nylon_worker(plugin, group="auth")
            gateway = nylon_gateway({
                "messaging": [{"name": "nats", "servers": [nylon_nats.url]}],
                "plugins": [{"name": "auth", "messaging": "nats", "group": "auth"}],
                ...
            })
    """
    from nylon.testing.workers import WorkerThread, worker_options
    from nylon.worker_group import WorkerGroup

    with contextlib.ExitStack() as stack:

        def broker() -> list[str]:
            return [request.getfixturevalue("nylon_nats").url]

        def start(
            plugin: NylonPlugin | str, group: str | None = None, *, workers: int = 1, **options: Any
        ) -> WorkerThread | WorkerGroup:
            if isinstance(plugin, str):
                servers = options.pop("servers", None) or broker()
                if group is None:
                    raise TypeError(
                        "a worker of its own process needs a group: nylon_worker(spec, group=...)"
                    )
                return stack.enter_context(WorkerGroup(plugin, servers, group, workers=workers, **options))
            if workers != 1:
                raise TypeError("a plugin object runs in one worker: give 'module:attribute' for more")
            if group is not None:
                options["group"] = group
            return stack.enter_context(WorkerThread(plugin, worker_options(plugin, options, broker)))

        yield start
