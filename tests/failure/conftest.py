"""Gateways that are about to have a bad day."""

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
