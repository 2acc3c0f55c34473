"""What a request filter over NATS adds to a proxied request, beside the plain proxy in the same run.

Twice: with everything (gateway, broker, worker, origin, wrk) on two cores as the system likes it, which gives
requests/s and latency; and with the gateway alone on its core, which gives its CPU per request undisturbed.
"""

import http.client
import json
import statistics
import sys
import time
from dataclasses import dataclass

from place import (
    HERE,
    MEASURED_CORE,
    OTHER_CORE,
    RUN,
    Failed,
    Processes,
    Running,
    Sample,
    Scenario,
    drive,
    free_ports,
    start_broker,
    start_origin,
    start_worker,
)

CONCURRENCY = (1, 64, 256)
ROWS = {"plain proxy": None, "with a request_filter over NATS": "inline"}
"""Row → the entry of its middleware."""
PLACES = {
    "two cores, as the system likes it": (None, None),
    "the gateway alone on its core": (MEASURED_CORE, OTHER_CORE),
}
"""Place → the core of the gateway and the core of all others."""
GOAL_US = 8.0
FIELDS = {"authorization": "Bearer eyJhbGciOiJIUzI1NiJ9", "x-request-id": "6b3f2c1e-77aa-4a54"}
SCENARIO = Scenario(
    "nats", "100 bytes", arguments=[part for field in FIELDS.items() for part in ("-H", ": ".join(field))]
)

Results = dict[str, dict[str, dict[int, list[Sample]]]]
"""Place → row → concurrency → its sample of each round."""


@dataclass
class Site:
    """What gateways of one place share."""

    origin: int
    broker: int
    core: int | None


def config(site: Site, own: int, entry: str | None) -> dict[str, object]:
    """A gateway of one thread, with or without a middleware on the worker."""
    endpoints = [{"ip": "127.0.0.1", "port": site.origin}]
    path: dict[str, object] = {"path": ["/", "/{*path}"], "service": {"name": "origin"}}
    if entry is not None:
        path["middleware"] = [{"plugin": "bench", "entry": entry}]
    return {
        "http": [f"127.0.0.1:{own}"],
        "runtime": {"threads": 1},
        "messaging": [{"name": "nats", "servers": [f"nats://127.0.0.1:{site.broker}"]}],
        "plugins": [{"name": "bench", "messaging": "nats", "group": "gateway"}],
        "services": [{"name": "origin", "service_type": "http", "endpoints": endpoints}],
        "routes": [{"name": "all", "route": {"type": "host", "value": "*"}, "paths": [path]}],
    }


def start_gateway(
    processes: Processes, name: str, written: dict[str, object], own: int, core: int | None
) -> Running:
    """Starts a gateway and waits until it answers with 200."""
    path = RUN / f"{name.replace(' ', '-')}.json"
    path.write_text(json.dumps(written, indent=2))
    command = [sys.executable, str(HERE.parent / "load" / "gateway.py"), str(path)]
    gateway = processes.start(name, command, core)
    gateway.wait_listening(own)
    status = 0
    for _ in range(200):
        gateway.check_alive()
        connection = http.client.HTTPConnection("127.0.0.1", own, timeout=10)
        connection.request("GET", "/shop/article", headers=FIELDS)
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return Running(own, {"proxy": gateway})
        time.sleep(0.05)
    raise Failed(f"{name} answers {status}:\n{gateway.last_words()}")


def refuses_without_key(port: int) -> bool:
    """Whether the handler decides: a request without its header is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/shop/article")
    status = connection.getresponse().status
    connection.close()
    return status == 401


def measure_place(processes: Processes, place: str, rounds: int, seconds: float, results: Results) -> None:
    own_core, other_core = PLACES[place]
    _, origin = start_origin(processes, other_core)
    _, broker = start_broker(processes, other_core)
    site = Site(origin, broker, own_core)
    worker = start_worker(processes, "gateway's worker", broker, "gateway", concurrency=1024, core=other_core)
    running = []
    for name, entry in ROWS.items():
        (own,) = free_ports(1)
        target = start_gateway(processes, name, config(site, own, entry), own, own_core)
        if entry is not None:
            if not refuses_without_key(own):
                raise Failed(f"{name}: the handler does not run")
            target.processes["worker"] = worker
        drive(processes, target, SCENARIO, 64, 1, other_core)  # warms it up
        running.append((name, target))
    for number in range(rounds):
        for concurrency in CONCURRENCY:
            for name, target in running:
                sample = drive(processes, target, SCENARIO, concurrency, seconds, other_core)
                by_row = results.setdefault(place, {}).setdefault(name, {})
                by_row.setdefault(concurrency, []).append(sample)
                print(
                    f"gateway {number + 1}/{rounds} {name:32} {concurrency:4}"
                    f"{sample.cpu_us['proxy']:7.1f} µs {sample.rps:8.0f}/s p50 {sample.p50_us:6.0f} µs",
                    file=sys.stderr,
                    flush=True,
                )


def added(plain: list[Sample], with_call: list[Sample], what: str) -> list[float]:
    """By how much a figure of a round exceeds the plain proxy's of the same round."""
    if what == "cpu":
        return [b.cpu_us["proxy"] - a.cpu_us["proxy"] for a, b in zip(plain, with_call, strict=True)]
    return [b.p50_us - a.p50_us for a, b in zip(plain, with_call, strict=True)]


def goal_figure(results: Results) -> float:
    """µs of CPU that a call adds in the gateway, at 64 connections with a core of its own."""
    rows = results["the gateway alone on its core"]
    plain, with_call = (rows[name][64] for name in ROWS)
    return statistics.median(added(plain, with_call, "cpu"))
