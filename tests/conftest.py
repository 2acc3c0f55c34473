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


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin for this test alone."""
    with Origin() as server:
        yield server
