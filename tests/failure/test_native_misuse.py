"""A library that breaks the contract of the ABI: each call is refused and counted, and everybody else goes on."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.client import Address, Answer, Connection, Truncated, fetch, request_bytes
from support.configs import Config, gateway_config, route
from support.native import c_library
from support.origin import Origin
from support.processes import NYLON
from support.waiting import eventually

from nylon import Gateway

SOURCE = Path(__file__).parent / "native" / "misusing.c"
SHORT = {"per_phase": {"request_filter": {"timeout_ms": 200}}}
_numbers = itertools.count(1)


def chain(path: str, *entries: str, **more: Any) -> Config:
    """A path with these entries, each with its plugin's name before a slash."""
    pairs = [entry.split("/") for entry in entries]
    middleware = [{"plugin": plugin, "entry": entry, **more} for plugin, entry in pairs]
    return route(f"/{path}/{{*rest}}", middleware=middleware)


PLAIN = """
    fine unknown null-message null-payload huge unknown-method websocket upgrade damaged-header short-status
    next-twice end-then-next late-answers several-threads for-ever meet reader holder stale fails-beside
""".split()  # noqa: SIM905 (as a list it would fill half a page)


def configuration(origin: Address) -> Config:
    """Two plugins of one file, which are two libraries, and a path for each entry."""
    library = str(c_library(SOURCE))
    paths = [
        *(chain(entry, f"one/{entry}") for entry in PLAIN),
        *(chain(entry, f"one/{entry}", **SHORT) for entry in ("never", "late", "stuck")),
        chain("race", "one/race"),
        chain("foreign", "one/tells", "two/foreign"),
        chain("many", *["one/fine"] * 500),
        chain("open"),
    ]
    plugins = [{"name": name, "type": "ffi", "file": library} for name in ("one", "two")]
    config = gateway_config(origin, paths, plugins=plugins)
    config["runtime"]["threads"] = 2
    return config


class Site:
    """A gateway with both plugins, and the origin behind it."""

    def __init__(self, gateway: Gateway, origin: Origin) -> None:
        self.gateway = gateway
        self.origin = origin
        url = urlsplit(gateway.urls[0])
        self.address: Address = (str(url.hostname), int(url.port or 0))

    def get(self, name: str) -> Answer:
        """GET a path that nobody else asks for."""
        return fetch(self.address, "GET", f"/{name}/{next(_numbers)}")

    def found(self, name: str) -> str | None:
        """What the entry of this name found out, as the origin saw it."""
        path = f"/{name}/{next(_numbers)}"
        answer = fetch(self.address, "GET", path)
        assert answer.status == 200, answer
        (received,) = self.origin.received(path)
        return received.header("x-found")

    def figures(self, plugin: str = "one") -> dict[str, Any]:
        """What `nylon status` knows of a plugin."""
        (found,) = (known for known in self.gateway.status()["plugins"] if known["name"] == plugin)
        return dict(found)

    def refused(self, kind: str, plugin: str = "one") -> int:
        """How many of a plugin's calls were refused for this reason."""
        return int(self.figures(plugin)["refused_calls"].get(kind, 0))

    def refusals(self, kind: str, run: Callable[[], None], plugin: str = "one") -> int:
        """How many calls were refused for this reason while `run` ran."""
        before = self.refused(kind, plugin)
        run()
        return self.refused(kind, plugin) - before


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Origin() as origin, Gateway(configuration(origin.address)) as gateway:
        yield Site(gateway, origin)


@pytest.fixture(autouse=True)
def goes_on(site: Site) -> Iterator[None]:
    """After each case the gateway, and the very library, serve as before, and no session stays open."""
    yield
    assert site.get("fine").status == 200
    assert site.get("open").status == 200
    eventually(lambda: site.figures()["sessions"] == 0, "the end of every session")


def test_a_closed_session_is_refused_and_its_reads_are_answered_with_nothing(site: Site) -> None:
    site.get("fine")
    eventually(lambda: site.figures()["sessions"] == 0, "a session that is over")

    def run() -> None:
        assert site.found("stale") == "1"

    assert site.refusals("closed_session", run) >= 2


def test_numbers_that_never_were_a_session_are_refused(site: Site) -> None:
    def run() -> None:
        assert site.get("unknown").status == 200

    assert site.refusals("unknown_session", run) >= 6


def test_another_librarys_session_is_out_of_reach(site: Site) -> None:
    def run() -> None:
        assert site.found("foreign") == "0"

    assert site.refusals("foreign_session", run, plugin="two") == 2


def test_calls_from_within_the_closing_are_refused(site: Site) -> None:
    def run() -> None:
        site.get("fine")
        eventually(lambda: site.figures()["sessions"] == 0, "a session that is over")

    assert site.refusals("closed_session", run) == 2


@pytest.mark.parametrize(
    ("entry", "kind", "count", "found"),
    [
        ("null-message", "null_message", 1, None),
        ("null-payload", "null_payload", 2, "1"),
        ("huge", "huge_payload", 3, "1"),
        ("unknown-method", "unknown_method", 9, "9"),
        ("websocket", "websocket", 1, None),
    ],
)
def test_messages_without_sense_are_refused_and_their_reads_answered_with_nothing(
    site: Site, entry: str, kind: str, count: int, found: str | None
) -> None:
    def run() -> None:
        assert site.found(entry) == found

    assert site.refusals(kind, run) == count


@pytest.mark.parametrize("entry", ["upgrade", "damaged-header", "short-status"])
def test_what_cannot_be_done_makes_the_phase_fail(site: Site, entry: str) -> None:
    assert site.get(entry).status == 500


@pytest.mark.parametrize(("entry", "status"), [("next-twice", 200), ("end-then-next", 403)])
def test_the_first_decision_stands_and_the_second_is_counted(site: Site, entry: str, status: int) -> None:
    def run() -> None:
        assert site.get(entry).status == status

    assert site.refusals("second_decision", run) == 1


def test_of_two_decisions_at_once_one_wins(site: Site) -> None:
    for _ in range(50):
        assert site.get("race").status == 200


def test_a_library_that_never_answers_is_504_and_works_again(site: Site) -> None:
    for _ in range(3):
        assert site.get("never").status == 504
        assert site.get("fine").status == 200


def test_a_decision_after_the_time_out_from_another_thread_counts_for_nothing(site: Site) -> None:
    assert site.get("late").status == 504
    eventually(lambda: site.found("late-answers") == "1", "the late thread's answer")


def test_reads_from_several_threads_are_each_answered_once(site: Site) -> None:
    assert site.found("several-threads") == str(4 * 600)


def at_once(site: Site, *names: str) -> list[str | None]:
    """What entries find out that run side by side, each on a connection of its own."""
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(site.found, names))


def test_sessions_on_two_threads_are_inside_the_library_at_the_same_time(site: Site) -> None:
    # Many connections, so that both data-plane threads have some.
    assert set(at_once(site, *["meet"] * 16)) == {"met"}


def test_a_session_that_stays_inside_the_library_holds_no_other_one_up(site: Site) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(site.found, "reader")
        eventually(lambda: site.figures()["sessions"] == 1, "the reader's session")
        assert site.found("holder") == "held"
        assert reading.result() == "read"


def test_a_call_that_does_not_return_is_told_of_and_its_decision_comes_too_late(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    assert site.get("stuck").status == 504
    told = [line for line in capfd.readouterr().err.splitlines() if "a native library is stuck" in line]
    assert len(told) == 1
    assert "request_filter" in told[0] and "stuck" in told[0].split("event_stream")[0]


def test_a_stream_that_fails_beside_a_later_phase_is_broken_off_and_the_phase_goes_on(site: Site) -> None:
    with Connection(site.address) as connection:
        connection.send(request_bytes("GET", f"/fails-beside/{next(_numbers)}"))
        with pytest.raises(Truncated):
            connection.read_answer()


def test_a_hundred_thousand_sessions_come_and_go(site: Site) -> None:
    with Connection(site.address) as connection:
        for number in range(200):
            assert connection.request("GET", f"/many/{number}").status == 200
    assert site.figures()["sessions"] <= 500


def test_calls_through_a_shutdown_and_after_it_are_harmless(origin: Origin) -> None:
    for _ in range(3):
        with Gateway(configuration(origin.address)) as gateway:
            site = Site(gateway, origin)
            assert site.get("for-ever").status == 200
            eventually(
                lambda site=site: site.refused("closed_session") > 1000, "a library that calls for ever"
            )


def test_status_shows_what_was_refused(origin: Origin, tmp_path: Path) -> None:
    config = {**configuration(origin.address), "control": str(tmp_path / "control.sock")}
    with Gateway(config) as gateway:
        site = Site(gateway, origin)
        site.get("next-twice")
        site.get("null-message")
        printed = subprocess.run(
            [NYLON, "status", "--control", config["control"]], capture_output=True, text=True, timeout=60
        )
        assert "1 second_decision" in printed.stdout, printed
        assert "1 null_message" in printed.stdout
        status = subprocess.run(
            [NYLON, "status", "--json", "--control", config["control"]], capture_output=True, timeout=60
        )
        one = json.loads(status.stdout)["plugins"][0]
        assert one["refused_calls"]["second_decision"] == 1
