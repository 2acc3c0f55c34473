"""What dies, and how often. Each scenario runs for some seconds and gives an account of every request."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from support.configs import Config

from chaos.account import Account
from chaos.place import GROUP, Place, processes_of
from chaos.traffic import Answer

Act = Callable[[Place, "Blows"], None]


@dataclass
class Blows:
    """What was done, when, and to whom."""

    seconds: float
    struck: list[tuple[float, int]]
    """`time.monotonic()` and the process."""

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds
        self._clock = threading.Event()

    def rest(self, seconds: float) -> bool:
        """Let the load run for a while; false once the time is over."""
        self._clock.wait(min(seconds, max(0.0, self._end - time.monotonic())))
        return time.monotonic() < self._end

    @property
    def pids(self) -> set[int]:
        """The processes that were struck."""
        return {pid for _, pid in self.struck}


@dataclass
class Outcome:
    """An account, and what it is to be held against."""

    account: Account
    blows: Blows
    log: str


@dataclass(frozen=True)
class Scenario:
    """One way for things to go wrong."""

    name: str
    act: Act
    prepare: Callable[[Place], None] | None = None
    """What is started before the load."""
    entry: str = "short"
    workers: int = 3
    policy: Config | None = None
    rate: float = 150

    def run(self, seconds: float) -> Outcome:
        """The load, the blows, the account."""
        with Place(workers=self.workers, policy=self.policy) as place:
            if self.prepare is not None:
                self.prepare(place)
            with place.traffic(self.entry, rate=self.rate) as traffic:
                blows = Blows(seconds, [])
                blows.rest(0.5)
                self.act(place, blows)
                account = place.account(traffic)
            return Outcome(account, blows, processes_of(place.gateway, place.workers))

    def unexcused(self, outcome: Outcome) -> list[Answer]:
        """The wrong answers, but those that are documented.

        An entry with closures lives on one worker: where that one was struck, 502 is the answer of the later phases.
        """
        account, struck = outcome.account, outcome.blows.pids
        if self.entry != "closure":
            return account.wrong
        return [a for a in account.wrong if a.status != 502 or not account.workers_of(a.number) & struck]


def strike(number: signal.Signals, every: float) -> Act:
    """Sends a signal to one worker process after the other, the one that has lived longest first."""

    def act(place: Place, blows: Blows) -> None:
        while blows.rest(every):
            # Oldest first; one that was struck may still be on its way out.
            if victims := [pid for pid in place.workers.pids if pid not in blows.pids]:
                place.workers.send(victims[0], number)
                blows.struck.append((time.monotonic(), victims[0]))

    return act


def freeze(place: Place, blows: Blows) -> None:
    """Stops one worker for a second and a half, lets it go on, and takes another one."""
    turn = 0
    while blows.rest(0.5):
        pids = place.workers.pids
        pid = pids[turn % len(pids)]
        turn += 1
        place.workers.send(pid, signal.SIGSTOP)
        blows.struck.append((time.monotonic(), pid))
        blows.rest(1.5)
        place.workers.send(pid, signal.SIGCONT)


def restart_broker(place: Place, blows: Blows) -> None:
    """Kills the broker, and starts it again a second later."""
    while blows.rest(1.5):
        place.nats.kill()
        blows.struck.append((time.monotonic(), 0))
        blows.rest(1.0)
        place.nats.restart()
    blows.rest(1.0)


def roll(place: Place, blows: Blows) -> None:
    """Replaces all workers, one after the other, again and again."""
    while blows.rest(1.0):
        place.workers.signal(signal.SIGHUP)
        blows.struck.append((time.monotonic(), place.workers.pid))


def start_green(place: Place) -> None:
    """Workers of the next version, in a group of their own."""
    place.start_workers(2, group="green", environment={"CHAOS_VERSION": "v2"})


def switch_versions(place: Place, blows: Blows) -> None:
    """Reloads the gateway with the other one of two versions' groups, again and again."""
    turn = 0
    while blows.rest(0.5):
        turn += 1
        place.gateway.reload(place.config("green" if turn % 2 else GROUP))
        blows.struck.append((time.monotonic(), place.gateway.pid))


SCENARIOS = (
    Scenario("workers killed, one a second", strike(signal.SIGKILL, 1.0)),
    Scenario("workers killed, entries with closures", strike(signal.SIGKILL, 1.0), entry="closure"),
    Scenario("workers told to leave, one a second", strike(signal.SIGTERM, 1.0)),
    Scenario("workers frozen for 1.5 s", freeze),
    Scenario("all workers replaced, again and again", roll),
    Scenario("versions switched by reloads", switch_versions, prepare=start_green),
    Scenario("broker killed, back after 1 s", restart_broker),
)
