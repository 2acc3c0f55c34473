"""One run of wrk against one engine, and what it cost that engine."""

import re
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine import Running, found
from process import Failed, Processes


@dataclass
class Sample:
    """One run."""

    requests: int
    rps: float
    p50_us: float
    p99_us: float
    errors: int
    """Responses outside 2xx and 3xx, and wrk's connect, read, write and time-out errors."""
    cpu_us: dict[str, float]
    """CPU time per request by role."""
    busy: float
    """How much of its core the proxy used."""
    resident_mib: float
    details: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class Scenario:
    """A kind of load."""

    name: str
    title: str
    path: str = "/shop/article"
    arguments: list[str] = field(default_factory=list)


SCENARIOS = [
    Scenario("small", "100 bytes, connections kept"),
    Scenario(
        "paced",
        "100 bytes, connections kept, the client as the slowest: the same pace for all",
        arguments=["-s", str(Path(__file__).parent / "peers" / "paced.lua")],
    ),
    Scenario("large", "1 MiB body", path="/large"),
    Scenario("connection", "100 bytes, a new connection per request", arguments=["-H", "Connection: close"]),
    Scenario("stale", "100 bytes, the origin silently closes pooled connections after 20 requests"),
]


def measure(
    processes: Processes, running: Running, scenario: Scenario, connections: int, seconds: float, core: int
) -> Sample:
    """Drives one engine with wrk for `seconds`; nothing else runs meanwhile."""
    command = [found("wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += ["-H", "x-api-key: k123", *scenario.arguments]
    command += [f"http://127.0.0.1:{running.port}{scenario.path}"]
    before = {role: process.cpu_seconds() for role, process in running.processes.items()}
    started = time.monotonic()
    wrk = processes.start("wrk", command, core)
    wrk.log.write_bytes(b"")
    try:
        wrk.popen.wait(seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed(f"wrk does not end: {' '.join(command)}") from None
    elapsed = time.monotonic() - started
    used = {role: process.cpu_seconds() - before[role] for role, process in running.processes.items()}
    processes.stop(wrk)
    output = wrk.last_words()
    for process in running.processes.values():
        process.check_alive()
    counted = re.search(r"(\d+) requests in", output)
    if wrk.popen.returncode != 0 or counted is None:
        raise Failed(f"wrk failed with code {wrk.popen.returncode}:\n{output}")
    requests = int(counted[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: (.*)", output)
    errors = int(refused[1]) if refused else 0
    errors += sum(int(number) for number in re.findall(r"\d+", broken[1])) if broken else 0
    return Sample(
        requests=requests,
        rps=float(number(r"Requests/sec:\s+([\d.]+)", output)),
        p50_us=microseconds(number(r"^\s+50%\s+(\S+)", output)),
        p99_us=microseconds(number(r"^\s+99%\s+(\S+)", output)),
        errors=errors,
        cpu_us={role: seconds * 1e6 / max(1, requests) for role, seconds in used.items()},
        busy=used["proxy"] / elapsed,
        resident_mib=running.processes["proxy"].resident_bytes() / (1 << 20),
        details="; ".join(match[0] for match in (refused, broken) if match),
    )


def number(pattern: str, output: str) -> str:
    """The one figure that `pattern` captures in wrk's report."""
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise Failed(f"cannot read wrk's report ({pattern}):\n{output}")
    return match[1]


def microseconds(text: str) -> float:
    """wrk's `1.23ms` as microseconds."""
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if match is None:
        raise Failed(f"cannot read wrk's time {text!r}")
    return float(match[1]) * {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}[match[2]]
