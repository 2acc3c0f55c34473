"""Holds what clients got against what handlers say they did.

An answer is right when it is exactly what the plugin makes of that number; so a header of another request, a phase
that was skipped or a half-applied change shows. A handler that ran twice must have been told so (`ctx.attempt`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from chaos.traffic import Answer


@dataclass(frozen=True)
class Run:
    """One run of a handler, as its process wrote it down."""

    phase: str
    number: int
    attempt: int
    pid: int
    version: str
    done: bool


def runs_of(record: Path) -> list[Run]:
    """All runs in a folder of records; one that was begun and not done was killed, or still runs."""
    begun: Counter[tuple[str, int, int, int, str]] = Counter()
    done: Counter[tuple[str, int, int, int, str]] = Counter()
    for file in record.glob("*.log"):
        for line in file.read_text().splitlines():
            word, phase, number, attempt, pid, version = line.split(" ")
            key = (phase, int(number), int(attempt), int(pid), version)
            (begun if word == "begun" else done)[key] += 1
    return [Run(*key, done=index < done[key]) for key, count in begun.items() for index in range(count)]


def expected(number: int, version: str) -> tuple[int, str]:
    """Status and body of the right answer."""
    body = f"denied {number}" if number % 5 == 0 else f"origin {number} checked {number}"
    return (403 if number % 5 == 0 else 200), f"{body} signed {number} {version}"


@dataclass
class Account:
    """What a run under chaos came to."""

    answers: list[Answer]
    runs: list[Run]
    wrong: list[Answer] = field(init=False)
    """Not the plugin's answer: an error, another request's answer, none."""

    def __post_init__(self) -> None:
        self.wrong = [answer for answer in self.answers if not self.is_right(answer)]

    @staticmethod
    def is_right(answer: Answer) -> bool:
        """Whether the answer is what the plugin makes of this number, wholly by one version of it."""
        versions = set(answer.headers.get("x-version", "").split())
        if len(versions) != 1 or answer.headers.get("x-number") != str(answer.number):
            return False
        return (answer.status, answer.body) == expected(answer.number, versions.pop())

    @property
    def statuses(self) -> Counter[int]:
        """How many answers had which status."""
        return Counter(answer.status for answer in self.answers)

    @property
    def repeated(self) -> list[Run]:
        """Runs that were told that they may not be the first."""
        return [run for run in self.runs if run.attempt > 1]

    @property
    def doubled(self) -> list[tuple[str, int]]:
        """Phase and number of handlers that ran more than once without being told: there must be none."""
        first = Counter((run.phase, run.number) for run in self.runs if run.attempt == 1)
        return [key for key, count in first.items() if count > 1]

    @property
    def unrun(self) -> list[int]:
        """Numbers that were answered as if the plugin had run, though it never did: there must be none."""
        ran: defaultdict[str, set[int]] = defaultdict(set)
        for run in self.runs:
            if run.done:
                ran[run.phase].add(run.number)
        return [a.number for a in self.answers if self.is_right(a) and a.number not in ran["request_filter"]]

    def logged(self) -> float:
        """The share of exchanges whose `logging` ran."""
        logged = {run.number for run in self.runs if run.phase == "logging" and run.done}
        return len(logged & {answer.number for answer in self.answers}) / max(1, len(self.answers))

    def seconds(self, share: float) -> float:
        """The time within which this share of the answers came."""
        times = sorted(answer.seconds for answer in self.answers)
        return times[min(len(times) - 1, int(share * len(times)))]

    def workers_of(self, number: int) -> set[int]:
        """The processes that ran something for this number."""
        return {run.pid for run in self.runs if run.number == number}

    def row(self) -> str:
        """One line for people."""
        wrong = ", ".join(f"{count} × {status}" for status, count in sorted(self._wrong_statuses().items()))
        return (
            f"{len(self.answers):7,} requests  {len(self.wrong):5} wrong{f' ({wrong})' if wrong else ''}  "
            f"{len(self.repeated):5} runs repeated, {len(self.doubled)} unmarked  "
            f"p50 {self.seconds(0.5) * 1e3:5.0f}  p99 {self.seconds(0.99) * 1e3:5.0f}  "
            f"p99.9 {self.seconds(0.999) * 1e3:5.0f}  max {self.seconds(1) * 1e3:5.0f} ms"
        )

    def _wrong_statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.wrong)

    def examples(self, count: int = 5) -> str:
        """A few of the wrong answers, for whoever has to find out why."""
        lines = [
            f"{a.number} at {a.sent:.3f} after {a.seconds:.3f} s: {a.status} {a.headers} {a.body[:200]!r}"
            for a in self.wrong[:count]
        ]
        return "\n".join(lines)
