"""The programs that make the load, and what their reports say."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine import HERE, RUN, authority, found
from process import Failed


@dataclass
class Report:
    """What a client says of its run."""

    requests: int
    rps: float
    p50_us: float
    p99_us: float
    errors: int
    """Responses outside 2xx and 3xx, and connections and requests that failed."""
    details: str = ""


class Client(Protocol):
    """A program that makes a load."""

    program: str

    def command(self, url: str, connections: int, seconds: int, arguments: list[str]) -> list[str]:
        """How to call it."""

    def read(self, output: str) -> Report | None:
        """Its report, None where it has not come to one."""


class Wrk:
    """HTTP/1.1: one request at a time on each connection."""

    program = "wrk"

    def command(self, url: str, connections: int, seconds: int, arguments: list[str]) -> list[str]:
        counts = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        return [found("wrk"), *counts, "-H", "x-api-key: k123", *arguments, url]

    def read(self, output: str) -> Report | None:
        counted = re.search(r"(\d+) requests in", output)
        if counted is None:
            return None
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        broken = re.search(r"Socket errors: (.*)", output)
        errors = int(refused[1]) if refused else 0
        errors += sum(int(number) for number in re.findall(r"\d+", broken[1])) if broken else 0
        return Report(
            requests=int(counted[1]),
            rps=float(number(r"Requests/sec:\s+([\d.]+)", output)),
            p50_us=microseconds(number(r"^\s+50%\s+(\S+)", output)),
            p99_us=microseconds(number(r"^\s+99%\s+(\S+)", output)),
            errors=errors,
            details="; ".join(match[0] for match in (refused, broken) if match),
        )


class H2load:
    """HTTP/2: as many connections as there are of the other, shared by eight requests each."""

    program = "h2load"
    streams = 8

    def command(self, url: str, connections: int, seconds: int, arguments: list[str]) -> list[str]:
        self._times.unlink(missing_ok=True)
        counts = ["-t1", f"-c{max(1, connections // self.streams)}", f"-m{self.streams}", f"-D{seconds}"]
        return [
            *(found("h2load"), *counts, f"--log-file={self._times}"),
            *("-H", "x-api-key: k123", *arguments, url),
        ]

    def read(self, output: str) -> Report | None:
        counted = re.search(
            r"requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored",
            output,
        )
        if counted is None:
            return None
        refused = sum(int(count) for count in re.findall(r"(\d+) [45]xx", output))
        # The moment, the status and the microseconds of each request.
        times = sorted(int(line.split("\t")[2]) for line in self._times.read_text().splitlines())
        self._times.unlink()
        if not times:
            return None
        errors = max(int(counted[2]), refused)
        return Report(
            requests=int(counted[1]),
            rps=float(number(r"finished in [^,]*, ([\d.]+) req/s", output)),
            p50_us=times[len(times) // 2],
            p99_us=times[len(times) * 99 // 100],
            errors=errors,
            details=f"{counted[2]} failed, {counted[3]} errored" if errors else "",
        )

    @property
    def _times(self) -> Path:
        return RUN / "h2load-times.tsv"


class Handshakes:
    """TLS: one request on each connection, and one connection at a time."""

    program = "handshakes"

    def command(self, url: str, connections: int, seconds: int, arguments: list[str]) -> list[str]:
        script = str(HERE / "handshakes.py")
        return [sys.executable, script, url, str(authority().ca), str(seconds), *arguments]

    def read(self, output: str) -> Report | None:
        lines = output.strip().splitlines()
        return Report(**json.loads(lines[-1])) if lines and lines[-1].startswith("{") else None


def number(pattern: str, output: str) -> str:
    """The one figure that `pattern` captures in a report."""
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise Failed(f"cannot read a report ({pattern}):\n{output}")
    return match[1]


def microseconds(text: str) -> float:
    """wrk's `1.23ms` as microseconds."""
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if match is None:
        raise Failed(f"cannot read wrk's time {text!r}")
    return float(match[1]) * {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}[match[2]]
