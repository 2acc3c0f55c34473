"""Three workers, one five times slower: does the slow one get less, and do the others' clients notice?

Beside each other in one run: two fast workers alone, the slow one alone (which gives its own latency), and all three.
The load is steady and below what the three can do; with all three, `busy` is what tells the gateway to go elsewhere.
"""

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass

import nats
import nats.errors
from gateway_cost import SCENARIO, start_gateway
from place import Failed, Processes, drive, free_ports, start_broker, start_worker
from scaling import config

PLACES_IN_A_WORKER = 8
FAST_MS, SLOW_MS = 5.0, 25.0
SETS = {
    "two fast": (FAST_MS, FAST_MS),
    "the slow one": (SLOW_MS,),
    "two fast and the slow one": (FAST_MS, FAST_MS, SLOW_MS),
}
CONNECTIONS = {"two fast": 12, "the slow one": 4, "two fast and the slow one": 18}
"""Three quarters of the places."""
GOAL = 1.2


@dataclass
class Sample:
    """One run of one set."""

    per_second: float
    p50_us: float
    p99_us: float
    requests: int
    errors: int
    slow_share: float
    """Of the calls that ran, those of the slow worker."""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


Results = dict[str, list[Sample]]
"""Set → the sample of each round."""


async def answers(broker: int, group: str) -> dict[str, int]:
    """Calls by worker's name, as the workers that answer within a moment say (`$SRV.STATS`)."""
    client = await nats.connect(f"nats://127.0.0.1:{broker}")
    inbox = await client.subscribe(client.new_inbox())
    calls: dict[str, int] = {}
    await client.publish(f"$SRV.STATS.nylon-{group}", reply=inbox.subject)
    with contextlib.suppress(nats.errors.TimeoutError):
        while True:
            if data := (await inbox.next_msg(0.3)).data:  # empty: the server knows nobody who listens
                stats = json.loads(data)
                calls[stats["id"]] = stats["endpoints"][0]["num_requests"]
    await client.close()
    return calls


def served(broker: int, group: str, workers: int) -> dict[str, int]:
    """Calls by worker's name, once so many workers are there. Raises `Failed` if they do not come."""
    for _ in range(30):
        if len(calls := asyncio.run(answers(broker, group))) == workers:
            return calls
    raise Failed(f"{workers} workers of group {group} do not come")


def measure(processes: Processes, rounds: int, seconds: float) -> Results:
    """All sets, in every round."""
    _, broker = start_broker(processes, None)
    running = []
    for number, (name, waits) in enumerate(SETS.items()):
        group = f"unequal{number}"
        (own,) = free_ports(1)
        slow: set[str] = set()
        known: dict[str, int] = {}
        target = None
        for wait in sorted(waits):
            start_worker(
                processes, f"{name}, {wait:g} ms", broker, group,
                concurrency=PLACES_IN_A_WORKER, core=None, wait_ms=wait,
            )  # fmt: skip
            if target is None:
                target = start_gateway(processes, f"gateway, {name}", config(own, broker, group), own, None)
            there = served(broker, group, len(known) + 1)
            if wait == SLOW_MS:
                slow = set(there) - set(known)
            known = there
        assert target is not None
        running.append((name, group, slow, target))
    results: Results = {}
    for number in range(rounds):
        for name, group, slow, target in running:
            count = len(SETS[name])
            before = served(broker, group, count)
            seen = drive(processes, target, SCENARIO, CONNECTIONS[name], seconds, None)
            ran = {worker: calls - before[worker] for worker, calls in served(broker, group, count).items()}
            share = sum(ran[worker] for worker in slow) / max(1, sum(ran.values()))
            sample = Sample(seen.rps, seen.p50_us, seen.p99_us, seen.requests, seen.errors, share)
            results.setdefault(name, []).append(sample)
            print(
                f"unequal {number + 1}/{rounds} {name:28} {seen.rps:7.0f}/s p50 {seen.p50_us / 1e3:5.1f} "
                f"p99 {seen.p99_us / 1e3:5.1f} ms, errors {seen.errors}, the slow one had {share:.0%}",
                file=sys.stderr,
                flush=True,
            )
    return results
