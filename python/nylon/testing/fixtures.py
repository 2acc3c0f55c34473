"""Pytest fixtures for tests that go through real sockets.

Pytest finds them by itself once Nylon is installed (the `pytest11` entry point). The module imports nothing
of Nylon at its head, so that a test run which uses none of them pays nothing. Every fixture stops what it
started, also when the test fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nylon.embedded import NatsServer


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
