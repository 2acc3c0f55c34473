"""One run of a load against one engine, and what it cost that engine."""

import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clients import Client, H2load, Handshakes, Wrk
from engine import Running
from process import Failed, Processes


@dataclass
class Sample:
    """One run."""

    requests: int
    rps: float
    p50_us: float
    p99_us: float
    errors: int
    """Responses outside 2xx and 3xx, and connections and requests that failed."""
    cpu_us: dict[str, float]
    """CPU time per request by role."""
    busy: float
    """How much of its core the proxy used."""
    resident_mib: float
    details: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


WRK = Wrk()
H2LOAD = H2load()
HANDSHAKES = Handshakes()


@dataclass
class Scenario:
    """A kind of load."""

    name: str
    title: str
    path: str = "/shop/article"
    arguments: list[str] = field(default_factory=list)
    client: Client = WRK
    tls: bool = False


SCENARIOS = [
    Scenario("small", "100 bytes, connections kept"),
    Scenario(
        "paced",
        "100 bytes, connections kept, the client as the slowest: the same pace for all",
        arguments=["-s", str(Path(__file__).parent / "peers" / "paced.lua")],
    ),
    Scenario("large", "1 MiB body", path="/large"),
    Scenario("http2", "100 bytes over HTTP/2, eight requests at once on each connection", client=H2LOAD),
    Scenario(
        "http2-large",
        "1 MiB body over HTTP/2, one request at a time on each connection",
        path="/large",
        arguments=["-m1"],
        client=H2LOAD,
    ),
    Scenario("connection", "100 bytes, a new connection per request", arguments=["-H", "Connection: close"]),
    Scenario("tls", "100 bytes over TLS 1.3, connections kept", tls=True),
    Scenario(
        "http2-tls",
        "100 bytes over HTTP/2 and TLS 1.3, eight requests at once on each connection",
        client=H2LOAD,
        tls=True,
    ),
    Scenario(
        "handshake",
        "100 bytes over TLS 1.3, a full handshake per request",
        client=HANDSHAKES,
        tls=True,
    ),
    Scenario("static", "a file of 100 kB, connections kept", path="/files/100k"),
    Scenario("stale", "100 bytes, the origin silently closes pooled connections after 20 requests"),
]


def measure(
    processes: Processes, running: Running, scenario: Scenario, connections: int, seconds: float, core: int
) -> Sample:
    """Drives one engine for `seconds`; nothing else runs meanwhile."""
    client = scenario.client
    if scenario.tls:
        url = f"https://127.0.0.1:{running.tls}{scenario.path}"
    else:
        url = f"http://127.0.0.1:{running.http2 if client is H2LOAD else running.port}{scenario.path}"
    command = client.command(url, connections, max(1, round(seconds)), scenario.arguments)
    before = {role: process.cpu_seconds() for role, process in running.processes.items()}
    started = time.monotonic()
    load = processes.start(client.program, command, core)
    load.log.write_bytes(b"")
    try:
        load.popen.wait(seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed(f"{client.program} does not end: {' '.join(command)}") from None
    elapsed = time.monotonic() - started
    used = {role: process.cpu_seconds() - before[role] for role, process in running.processes.items()}
    processes.stop(load)
    output = load.last_words()
    for process in running.processes.values():
        process.check_alive()
    report = client.read(output)
    if load.popen.returncode != 0 or report is None:
        raise Failed(f"{client.program} failed with code {load.popen.returncode}:\n{output}")
    return Sample(
        requests=report.requests,
        rps=report.rps,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
        errors=report.errors,
        cpu_us={role: seconds * 1e6 / max(1, report.requests) for role, seconds in used.items()},
        busy=used["proxy"] / elapsed,
        resident_mib=running.processes["proxy"].resident_bytes() / (1 << 20),
        details=report.details,
    )
