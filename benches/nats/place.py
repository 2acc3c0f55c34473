"""Where the measurements over NATS run: a broker, the cores, and what they share with `benches/load`.

`benches/load` is not a package: its modules are found by its folder on the path, which this module puts there, and
hands on what the others need of them.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
RUN = HERE / "run"
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "load"))

from engine import Running, found, start_origin  # noqa: E402
from load import Sample, Scenario  # noqa: E402
from load import measure as drive  # noqa: E402
from process import Failed, Process, Processes, free_ports  # noqa: E402
from report import machine, spread  # noqa: E402

__all__ = [
    "HERE",
    "MEASURED_CORE",
    "OTHER_CORE",
    "RUN",
    "Failed",
    "Process",
    "Processes",
    "Running",
    "Sample",
    "Scenario",
    "drive",
    "found",
    "free_ports",
    "load_program",
    "machine",
    "spread",
    "start_broker",
    "start_origin",
    "start_worker",
]

MEASURED_CORE, OTHER_CORE = 0, 1
"""What is measured has a core of its own where a part of the run says so."""


def start_broker(processes: Processes, core: int | None) -> tuple[Process, int]:
    """A nats-server on loopback, and its port."""
    from nylon.embedded import find_nats_server

    (port,) = free_ports(1)
    command = [str(find_nats_server()), "-a", "127.0.0.1", "-p", str(port)]
    broker = processes.start("nats-server", command, core)
    broker.wait_listening(port)
    return broker, port


def start_worker(
    processes: Processes,
    name: str,
    broker: int,
    group: str,
    *,
    concurrency: int,
    core: int | None,
    wait_ms: float = 5,
) -> Process:
    """A worker process with the plugin of handlers.py, whose entry `wait` takes `wait_ms`.

    It serves some time after this returns.
    """
    command = [
        sys.executable,
        str(HERE / "handlers.py"),
        f"nats://127.0.0.1:{broker}",
        group,
        str(concurrency),
        str(wait_ms),
    ]
    return processes.start(name, command, core)


def load_program() -> Path:
    """The caller of benches/rust, which `make bench-nats` builds. Raises `Failed` where it is not built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = target / "release" / "nats-load"
    if not program.exists():
        raise Failed("nats-load is not built: cargo build --release -p nylon-benches")
    return program
