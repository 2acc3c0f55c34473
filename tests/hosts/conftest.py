"""The hosts: one gateway each, with every route of the suite, for the whole run.

A case takes the fixture `host` and runs on all of them. A case that cannot hold on one says so with
`@pytest.mark.not_on("python-inline", reason=...)`; the names may be patterns (`remote*`).
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterator

import pytest
from places import HOSTS
from routes import suite_config
from suite import Case, Host, running_host
from support.client import Address
from support.configs import Config

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "not_on(*hosts, reason): a case that cannot hold on this host")


@pytest.fixture(scope="session", params=tuple(HOSTS))
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Each host in turn."""

    def configure(origin: Address, plugin: Config, sections: Config) -> Config:
        more = ("no-such-entry",) if plugin["type"] == "messaging" else ()
        return suite_config(origin, plugin, more_entries=more, **sections)

    with running_host(request, configure, "hosts", "/fine/ready") as running:
        yield running


@pytest.fixture
def case(host: Host, request: pytest.FixtureRequest) -> Case:
    """This test on this host."""
    for mark in request.node.iter_markers("not_on"):
        if any(fnmatch.fnmatch(host.name, pattern) for pattern in mark.args):
            pytest.skip(mark.kwargs["reason"])
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return Case(host, f"{name}-{next(_numbers)}")
