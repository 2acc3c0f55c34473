"""What all tests share: an origin of their own, and processes that end with the test whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.origin import Origin


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin for this test alone."""
    with Origin() as server:
        yield server
