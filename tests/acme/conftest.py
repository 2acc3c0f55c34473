"""An authority for each test, since it remembers what it has issued."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acme_site import Site
from support.origin import Origin
from support.pebble import Authority, Pebble, free_ports


@pytest.fixture
def site(origin: Origin, tmp_path: Path) -> Site:
    http_port, https_port = free_ports(2)
    (tmp_path / "pebble").mkdir()
    return Site(origin, Authority(tmp_path / "pebble", http_port, https_port), tmp_path / "acme")


@pytest.fixture
def pebble(site: Site) -> Iterator[Pebble]:
    """An authority that issues whatever is proven."""
    with site.authority.running() as pebble:
        yield pebble
