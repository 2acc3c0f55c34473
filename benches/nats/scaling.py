"""How throughput grows with workers: 1, 2, 4 and 8 of them, each with a handler that waits 5 ms, 16 at once.

Such a worker cannot do more than 3,200 calls/s, so the table says how well the gateway keeps all of them filled, up to
where the machine has no CPU left: hence the CPU of gateway, broker, workers and wrk together, and what others used.
"""

import os
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway_cost import SCENARIO, start_gateway
from place import Process, Processes, drive, free_ports, start_broker, start_worker

WORKERS = (1, 2, 4, 8)
PLACES_IN_A_WORKER = 16
CONNECTIONS_PER_WORKER = 20
"""A few more than a worker has places, so that none is empty for want of a request."""


@dataclass
class Sample:
    """One run."""

    workers: int
    per_second: float
    """Answers of the handler; what the gateway refused is not among them."""
    p50_us: float
    p99_us: float
    requests: int
    errors: int
    cpu: float
    """Part of the machine's CPU that gateway, broker, workers and wrk used together."""
    others: float
    """Part of it that everything else on the machine used meanwhile."""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


Results = dict[int, list[Sample]]
"""Workers → the sample of each round."""


def machine_seconds() -> tuple[float, float]:
    """CPU seconds of all cores since boot: those used, and all."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    return (sum(numbers) - numbers[3] - numbers[4]) / ticks, sum(numbers) / ticks


def own_seconds(processes: list[Process]) -> float:
    """CPU seconds of these processes, and of the children of this one that have ended (wrk)."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(process.cpu_seconds() for process in processes) + ended.ru_utime + ended.ru_stime


def config(own: int, broker: int, group: str) -> dict[str, object]:
    """A gateway whose every request is answered by the handler."""
    nobody = [{"ip": "127.0.0.1", "port": 9}]
    middleware = [{"plugin": "bench", "entry": "wait"}]
    path = {"path": ["/", "/{*path}"], "service": {"name": "nobody"}, "middleware": middleware}
    return {
        "http": [f"127.0.0.1:{own}"],
        "runtime": {"threads": 1},
        "messaging": [{"name": "nats", "servers": [f"nats://127.0.0.1:{broker}"]}],
        "plugins": [{"name": "bench", "messaging": "nats", "group": group}],
        "services": [{"name": "nobody", "service_type": "http", "endpoints": nobody}],
        "routes": [{"name": "all", "route": {"type": "host", "value": "*"}, "paths": [path]}],
    }


def measure(processes: Processes, rounds: int, seconds: float) -> Results:
    """All numbers of workers, in every round."""
    server, broker = start_broker(processes, None)
    results: Results = {}
    running = []
    everything = [server]
    for count in WORKERS:
        group = f"scale{count}"
        for number in range(count):
            name = f"worker {number} of {count}"
            worker = start_worker(processes, name, broker, group, concurrency=PLACES_IN_A_WORKER, core=None)
            everything.append(worker)
        (own,) = free_ports(1)
        target = start_gateway(processes, f"gateway of {count}", config(own, broker, group), own, None)
        drive(
            processes, target, SCENARIO, CONNECTIONS_PER_WORKER * count, 1, None
        )  # all workers are there after it
        everything.append(target.processes["proxy"])
        running.append((count, target))
    for number in range(rounds):
        for count, target in running:
            used, machine = own_seconds(everything), machine_seconds()
            seen = drive(processes, target, SCENARIO, CONNECTIONS_PER_WORKER * count, seconds, None)
            used, machine_after = own_seconds(everything) - used, machine_seconds()
            there = max(0.01, machine_after[1] - machine[1])
            cpu = used / there
            sample = Sample(
                workers=count,
                per_second=seen.rps * (1 - seen.errors / max(1, seen.requests)),
                p50_us=seen.p50_us,
                p99_us=seen.p99_us,
                requests=seen.requests,
                errors=seen.errors,
                cpu=cpu,
                others=max(0.0, (machine_after[0] - machine[0]) / there - cpu),
            )
            results.setdefault(count, []).append(sample)
            print(
                f"scaling {number + 1}/{rounds} {count} workers {sample.per_second:9.0f}/s "
                f"errors {sample.errors} CPU {cpu:.0%}, others {sample.others:.0%}",
                file=sys.stderr,
                flush=True,
            )
    return results
