"""Gateways without plugins: what the data plane does by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from support.configs import Config, gateway_config
from support.origin import Origin
from support.processes import GatewayProcess, Start


@pytest.fixture
def start(origin: Origin) -> Iterator[Start]:
    """Start a gateway in front of `origin`; the arguments are those of `gateway_config`."""
    with contextlib.ExitStack() as stack:

        def start(paths: list[Config] | None = None, **sections: Any) -> GatewayProcess:
            return stack.enter_context(GatewayProcess(gateway_config(origin.address, paths, **sections)))

        yield start


@pytest.fixture(scope="module")
def plain() -> Iterator[tuple[GatewayProcess, Origin]]:
    """A gateway that forwards everything, and the origin behind it; shared by the tests of a file."""
    with Origin() as origin, GatewayProcess(gateway_config(origin.address)) as gateway:
        yield gateway, origin
