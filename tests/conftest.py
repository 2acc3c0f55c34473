"""What all tests share: an origin of their own, and processes that end with the test whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from support.origin import Origin


def pytest_configure() -> None:
    """Lets Ctrl-C mean what it means in a terminal, for the processes that tests start as well.

    A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which tests stay together when several processes share them out (`--dist loadgroup`).

    A file does, since its tests share what was started for it; of the hosts' suite, all that runs on one host.
    """
    for item in items:
        callspec = getattr(item, "callspec", None)
        host = callspec.params.get("host") if callspec else None
        item.add_marker(pytest.mark.xdist_group(f"host {host}" if host else item.nodeid.partition("::")[0]))


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin for this test alone."""
    with Origin() as server:
        yield server
