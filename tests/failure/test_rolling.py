"""Workers that are replaced while they serve: told to leave, reloaded, changed, recycled. No client notices.

Every request is numbered. Each must get its right answer, each of its phases must have run exactly once and as the
first attempt: nothing was lost, nothing doubled, nothing even tried again. (Where the machine itself stood still
meanwhile, a call may rightly have been sent again: such runs are marked, and must be right all the same.)
"""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.account import Account, runs_of
from chaos.place import HERE, Place
from support.configs import Config
from support.stalls import StallWatch
from support.waiting import eventually

pytestmark = pytest.mark.alone

RATE = 80.0
PATIENCE = 30.0


def await_log(place: Place, text: str, count: int = 1) -> None:
    """Until the supervisor and its workers have said something so often."""

    def said() -> bool:
        assert place.workers.running, place.workers.log
        return place.workers.log.count(text) >= count

    eventually(said, f"{count} × {text!r} in\n{place.workers.log}", within=PATIENCE)


def under_load(place: Place, entry: str, act: Callable[[Place], None]) -> Account:
    """What became of every request while `act` was done. No client may have noticed, and no handler."""
    with StallWatch() as watch, place.traffic(entry, rate=RATE) as traffic:
        eventually(lambda: len(traffic.answers) > 20, "a load")
        act(place)
        sent = len(traffic.answers)
        eventually(lambda: len(traffic.answers) > sent + 20, "a load, after it all as well")
        answers = traffic.stop()
        eventually(
            lambda: Account(answers, runs_of(place.record)).logged() == 1.0,
            f"every exchange in the record of `logging`:\n{place.workers.log[-6000:]}{place.gateway.log[-6000:]}",
            within=PATIENCE,
        )
        account = place.account(traffic)
    log = place.workers.log[-6000:] + place.gateway.log[-6000:]
    assert account.wrong == [], f"{account.examples()}\n{log}"
    assert account.doubled == []
    ran = Counter((run.phase, run.number) for run in account.runs if run.done)
    numbers = {answer.number for answer in account.answers}
    for phase in ("request_filter", "response_filter", "response_body_filter", "logging"):
        assert {number for of, number in ran if of == phase} == numbers, phase
    if not (watch.stalled or "stood still" in place.workers.log):
        assert account.repeated == [], log
        assert set(ran.values()) == {1}
    return account


def tell_one_to_leave(place: Place) -> None:
    for count, pid in enumerate(place.workers.pids[:2], 1):
        place.workers.send(pid, signal.SIGTERM)
        await_log(place, "was told to leave: replacing it", count)
        await_log(place, "serving as worker", 3 + count)


def replace_all(place: Place) -> None:
    place.workers.signal(signal.SIGHUP)
    await_log(place, "reloaded in")
    assert place.workers.log.count("takes over from pid") == 3


def wait_for_recycling(place: Place) -> None:
    await_log(place, "takes over from pid", 3)


@pytest.mark.parametrize("entry", ["short", "closure"])
@pytest.mark.parametrize(
    ("act", "started", "said"),
    [
        (tell_one_to_leave, {}, "was told to leave"),
        (replace_all, {}, "SIGHUP: replacing 3 workers, one after the other"),
        (
            wait_for_recycling,
            {"arguments": ("--max-requests", "200", "--max-requests-jitter", "100")},
            "is to be replaced: it has had",
        ),
        (
            wait_for_recycling,
            {"arguments": ("--max-rss", "120"), "environment": {"CHAOS_LEAK": "500000"}},
            "is to be replaced: it holds",
        ),
    ],
    ids=["told-to-leave", "sighup", "max-requests", "max-rss"],
)
def test_replaced_workers_cost_no_request(
    act: Callable[[Place], None], started: Config, said: str, entry: str
) -> None:
    arguments = ("--drain-timeout", "8", *started.get("arguments", ()))
    with Place(started={**started, "arguments": arguments}) as place:
        under_load(place, entry, act)
        assert said in place.workers.log


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with the plugin, to be changed."""
    shutil.copy(HERE / "plugin.py", tmp_path / "plugin.py")
    return tmp_path


def change(app: Path, old: str, new: str) -> None:
    """An edit of the plugin, as an editor saves it: at once."""
    text = (app / "plugin.py").read_text()
    assert text.count(old) == 1
    (app / "plugin.py.new").write_text(text.replace(old, new))
    (app / "plugin.py.new").rename(app / "plugin.py")


VERSION = 'VERSION = os.environ.get("CHAOS_VERSION", "v1")'


@pytest.mark.parametrize("workers", [1, 3])
def test_changed_code_is_loaded_without_a_gap(app: Path, workers: int) -> None:
    def edit(place: Place) -> None:
        await_log(place, "watching")
        change(app, VERSION, 'VERSION = "v2"')
        await_log(place, "reloaded in")

    # Entries with closures: an exchange is served wholly by one version.
    with Place(
        workers=workers, started={"app_dir": app, "arguments": ("--reload", "--drain-timeout", "8")}
    ) as place:
        account = under_load(place, "closure", edit)
        assert "plugin.py changed: replacing" in place.workers.log
        versions = [answer.headers["x-version"] for answer in account.answers]
        assert versions[0] == "v1 v1" and versions[-1] == "v2 v2"


def test_broken_edit_keeps_the_workers_of_before_and_the_next_good_one_is_taken(app: Path) -> None:
    def edit(place: Place) -> None:
        pids = place.workers.pids
        change(app, VERSION, "VERSION = )")
        await_log(place, "what serves stays (2 workers)")
        assert place.workers.pids == pids
        change(app, "VERSION = )", 'VERSION = "v3"')
        await_log(place, "reloaded in")

    with Place(
        workers=2, started={"app_dir": app, "arguments": ("--reload", "--drain-timeout", "8")}
    ) as place:
        account = under_load(place, "closure", edit)
        assert account.answers[-1].headers["x-version"] == "v3 v3"
        log = place.workers.log
        assert "plugin.py:15:11: SyntaxError: unmatched ')'\n    VERSION = )\n              ^\n" in log
        assert log.count("SyntaxError") == 1
        assert "Traceback" not in log


def test_new_worker_gets_calls_only_once_it_serves() -> None:
    with Place(workers=1, started={"arguments": ("--drain-timeout", "8")}) as place:
        under_load(place, "short", replace_one)


def replace_one(place: Place) -> None:
    [old] = place.workers.pids
    place.workers.signal(signal.SIGHUP)
    seen = set()
    deadline = time.monotonic() + PATIENCE
    while "takes over from pid" not in place.workers.log:
        assert time.monotonic() < deadline, place.workers.log
        seen |= set(place.workers.pids)
    assert old in seen and len(seen) == 2  # both lived, until the new one served
    await_log(place, "reloaded in")
