"""Workers that break the protocol.

The exchange gets its policy, other exchanges go on, the log stays short, and all of it is counted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from misbehaving_worker import FLOOD, FLOODS, NAMES, SENSELESS
from support.client import fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin
from support.processes import TESTS, Process
from support.waiting import eventually

from nylon import Gateway
from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent


class MisbehavingProcess(Process):
    """The worker in a process of its own, so that its floods are not ours to send."""

    def __init__(self, url: str) -> None:
        script = [sys.executable, HERE / "misbehaving_worker.py", url, "g"]
        super().__init__(script, cwd=HERE, environment={"PYTHONPATH": f"{TESTS}:{HERE}"})
        self.read_line()


class Place:
    """A gateway in this process before one such worker: `/fail/ENTRY` and `/pass/ENTRY` by what an error means."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        host, port = gateway.urls[0].removeprefix("http://").split(":")
        self.address = (host, int(port))

    def status(self, path: str) -> int:
        return fetch(self.address, "GET", path).status

    @property
    def counted(self) -> dict[str, int]:
        """The connection's counters."""
        counted: dict[str, int] = self.gateway.status()["plugins"][0]["connection"]
        return counted


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    def policy(on_error: str) -> Config:
        retry = {"max": 1, "backoff_ms_initial": 1}
        return {"request_filter": {"timeout_ms": 1000, "on_error": on_error, "retry": retry}}

    paths = [
        route(f"/{word}/{entry}", middleware=[{"plugin": "p", "entry": entry, "per_phase": policy(on_error)}])
        for word, on_error in (("fail", "fail"), ("pass", "continue"))
        for entry in NAMES
    ]
    with NatsServer() as server, Origin() as origin, MisbehavingProcess(server.url) as worker:
        config: dict[str, Any] = gateway_config(
            origin.address,
            paths,
            plugins=[{"name": "p", "messaging": "nats", "group": "g"}],
            messaging=[{"name": "nats", "servers": [server.url]}],
        )
        with Gateway(config) as gateway:
            here = Place(gateway)
            eventually(lambda: here.status("/fail/good") == 200, "a worker that answers")
            yield here
        # It has calls that it will never answer, and would wait for them.
        worker.signal(signal.SIGKILL)


@pytest.mark.parametrize("entry", SENSELESS)
def test_an_answer_without_sense_is_used_in_no_part(place: Place, entry: str) -> None:
    answer = fetch(place.address, "GET", f"/fail/{entry}")
    assert answer.status == 502
    assert answer.header("x-a") is answer.header("x-b") is None
    assert place.status(f"/pass/{entry}") == 200  # the origin's, as if the middleware were not there
    assert place.status("/fail/good") == 200


@pytest.mark.parametrize("entry", ["late", "silent"])
def test_an_answer_that_does_not_come_is_a_time_out(place: Place, entry: str) -> None:
    assert place.status(f"/fail/{entry}") == 504
    assert place.status("/fail/good") == 200


def test_an_answer_that_names_another_call_leaves_this_one_lost(place: Place) -> None:
    before = place.counted["misbehaviour"]
    assert place.status("/fail/other-id") == 502  # asked after its call, the worker knows nothing of it
    assert place.counted["misbehaviour"] > before
    assert place.status("/fail/good") == 200


def test_an_answer_that_comes_late_is_counted_and_touches_no_other_call(place: Place) -> None:
    before = place.counted["late"]
    assert place.status("/fail/late") == 504
    eventually(lambda: place.counted["late"] > before, "a late answer")
    assert fetch(place.address, "GET", "/fail/good").body == b"good"


def test_an_answer_that_comes_twice_counts_once(place: Place) -> None:
    before = place.counted["late"]
    answers = [fetch(place.address, "GET", "/fail/twice") for _ in range(20)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"twice")}
    eventually(lambda: place.counted["late"] >= before + 20, "copies that are counted")


@pytest.mark.parametrize("entry", ["version-99", "unknown-kind"])
def test_a_later_version_is_understood_as_far_as_it_goes(place: Place, entry: str) -> None:
    assert fetch(place.address, "GET", f"/fail/{entry}").body == entry.encode()


@pytest.mark.parametrize("entry", FLOODS)
def test_a_flood_is_bounded_counted_and_logged_once(
    place: Place, capfd: pytest.CaptureFixture[str], entry: str
) -> None:
    assert place.status(f"/pass/{entry}") == 200
    memory, before = psutil.Process().memory_info().rss, place.counted
    for _ in range(5):
        place.status(f"/pass/{entry}")
        assert place.status("/fail/good") == 200
    if entry == "flood-of-garbage":
        eventually(lambda: unwanted(place.counted) >= unwanted(before) + FLOOD, "a flood that is counted")
    assert psutil.Process().memory_info().rss < memory + (64 << 20)
    assert len(capfd.readouterr().err.splitlines()) < 100


def unwanted(counted: dict[str, int]) -> int:
    """Frames that nobody waits for or can read."""
    return counted["late"] + counted["misbehaviour"]
