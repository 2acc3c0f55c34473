"""What a call costs the worker's process, beside a worker of nats-py and a codec in the same run.

The worker has one core, broker and caller the other. Rounds are interleaved: each row once per round.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from place import (
    HERE,
    MEASURED_CORE,
    OTHER_CORE,
    RUN,
    Failed,
    Process,
    Processes,
    load_program,
    start_broker,
    start_worker,
)

CONCURRENCY = (64, 256)
GOALS = {"def, inline": 4.5, "async def": 6.0, "async def that awaits": 9.0}
"""µs of CPU per call in the worker."""


@dataclass
class Row:
    """One kind of worker."""

    name: str
    entry: str = "inline"
    stock: tuple[str, str] | None = None
    """Codec and loop of a nats-py worker; none for Nylon's."""
    go: bool = False
    """Whether it is the Go SDK's."""


@dataclass
class Sample:
    """One run of the caller."""

    worker_us: float
    broker_us: float
    busy: float
    """How much of its core the worker used."""
    per_second: float
    p50_us: float
    calls: int
    errors: int
    reply_bytes: float

    def as_json(self) -> dict[str, object]:
        return asdict(self)


ROWS = [
    Row("def, inline", "inline"),
    Row("async def", "async"),
    Row("async def that awaits", "awaits"),
    Row("def, in the pool", "pool"),
    Row("Go SDK", "go", go=True),
    Row("nats-py + msgpack, uvloop", stock=("msgpack", "uvloop")),
    Row("nats-py + msgpack, asyncio", stock=("msgpack", "asyncio")),
    Row("nats-py + ormsgpack, uvloop", stock=("ormsgpack", "uvloop")),
]

Results = dict[str, dict[int, list[Sample]]]
"""Row → concurrency → its sample of each round."""


def start(processes: Processes, row: Row, broker: int, group: str) -> Process:
    if row.go:
        return processes.start(
            row.name, [str(go_worker()), f"nats://127.0.0.1:{broker}", group, "1024"], MEASURED_CORE
        )
    if row.stock is None:
        # Room for every call in flight: `busy` is measured elsewhere.
        return start_worker(processes, row.name, broker, group, concurrency=1024, core=MEASURED_CORE)
    command = [sys.executable, str(HERE / "stock.py"), f"nats://127.0.0.1:{broker}", group, *row.stock]
    return processes.start(row.name, command, MEASURED_CORE)


def go_worker() -> Path:
    """The program of the folder `go`, built."""
    path = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if path is None:
        raise Failed("the row of the Go SDK needs Go: https://go.dev/dl")
    program = RUN / "go-worker"
    done = subprocess.run([path, "build", "-o", str(program), "."], cwd=HERE / "go", check=False)
    if done.returncode != 0:
        raise Failed("the worker in Go does not build")
    return program


def drive(
    processes: Processes,
    worker: Process,
    broker: tuple[Process, int],
    target: tuple[str, str],
    load: tuple[int, float],
) -> Sample:
    """Calls one worker. `target`: group and entry; `load`: calls in flight and seconds."""
    server, port = broker
    group, entry = target
    concurrency, seconds = load
    command = [str(load_program()), f"127.0.0.1:{port}", group, entry, str(concurrency), str(seconds)]
    before = worker.cpu_seconds(), server.cpu_seconds()
    caller = processes.start("nats-load", command, OTHER_CORE)
    caller.log.write_bytes(b"")
    try:
        code = caller.popen.wait(seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed(f"nats-load does not end: {' '.join(command)}") from None
    used = worker.cpu_seconds() - before[0], server.cpu_seconds() - before[1]
    processes.stop(caller)
    worker.check_alive()
    if code != 0:
        raise Failed(f"nats-load failed against {worker.name}: {caller.last_words()}")
    told = json.loads(caller.last_words().splitlines()[-1])
    calls = told["calls"]
    return Sample(
        worker_us=used[0] * 1e6 / calls,
        broker_us=used[1] * 1e6 / calls,
        busy=used[0] * told["per_second"] / calls,
        per_second=told["per_second"],
        p50_us=told["p50_us"],
        calls=calls,
        errors=told["errors"] + told["busy"],
        reply_bytes=told["reply_bytes"],
    )


def measure(processes: Processes, rounds: int, seconds: float) -> Results:
    """All rows at every concurrency."""
    broker = start_broker(processes, OTHER_CORE)
    results: Results = {}
    running = []
    for number, row in enumerate(ROWS):
        group = f"bench{number}"
        worker = start(processes, row, broker[1], group)
        drive(processes, worker, broker, (group, row.entry), (64, 1.0))  # waits for it, and warms it up
        running.append((row, worker, group))
    for number in range(rounds):
        for row, worker, group in running:
            for concurrency in CONCURRENCY:
                sample = drive(processes, worker, broker, (group, row.entry), (concurrency, seconds))
                results.setdefault(row.name, {}).setdefault(concurrency, []).append(sample)
                print(
                    f"worker  {number + 1}/{rounds} {row.name:28} {concurrency:4}"
                    f"{sample.worker_us:7.2f} µs {sample.per_second:9.0f}/s",
                    file=sys.stderr,
                    flush=True,
                )
    return results
