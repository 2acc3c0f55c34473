"""What all tests share: an origin of their own, and processes that end with the test whatever happens."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from support.certificates import Authority
from support.configs import Config, gateway_config
from support.origin import Origin
from support.processes import GatewayProcess, Start
from xdist.scheduler import LoadScopeScheduling


def pytest_configure() -> None:
    """Lets Ctrl-C mean what it means in a terminal, for the processes that tests start as well.

    A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class ByWhatIsShared(LoadScopeScheduling):
    """Which tests stay together when several processes share them out (`-n`).

    A file does, since its tests share what was started for it; of the hosts' suite, all that runs on one host.
    """

    def _split_scope(self, nodeid: str) -> str:
        on_host = re.match(r"tests/hosts/.*\[([a-z]+(?:-[a-z]+(?=[-\]]))?)", nodeid)
        return f"host {on_host[1]}" if on_host else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByWhatIsShared:
    return ByWhatIsShared(config, log)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin for this test alone."""
    with Origin() as server:
        yield server


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


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Origin, Authority]]:
    """The same over TLS only, for `localhost`, and who has signed its certificate."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    sections = {"http": [], "https": ["127.0.0.1:0"], "tls": [authority.issue("localhost", "localhost")]}
    with Origin() as origin, GatewayProcess(gateway_config(origin.address, **sections)) as gateway:
        yield gateway, origin, authority
