"""Measures Nylon over NATS: the worker, the gateway's part, scaling, and unequal workers, in one run.

    python benches/nats/run.py                  # everything: ten minutes; what `make bench-nats` does
    python benches/nats/run.py --quick          # every row once, for a second
    python benches/nats/run.py --part worker    # one part only (worker, gateway, scaling, unequal)

Writes RESULTS.md and RESULTS.json beside it (`--output PREFIX`), and the tables to standard output.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import gateway_cost
import scaling
import unequal
import worker_cost
from place import RUN, Failed, Processes, found, machine, spread

PARTS = ("worker", "gateway", "scaling", "unequal")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="of load per row and round (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part (may be repeated)")
    parser.add_argument(
        "--output", type=Path, default=RUN / "results", help="prefix of the .md and .json files"
    )
    return parser.parse_args()


def missing() -> list[str]:
    """What is not installed, each with how to get it."""
    lines = []
    programs = {"wrk": "wrk", "nginx": "nginx", "taskset": "util-linux", "setpriv": "util-linux"}
    if lacking := sorted({package for program, package in programs.items() if not found(program)}):
        packages = " ".join(lacking)
        lines.append(f"not found: {packages}. On Debian: apt-get install {packages}")
    for module in ("nylon", "nats", "msgpack", "ormsgpack", "uvloop"):
        if subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode != 0:
            lines.append(f"the Python package {module} is not there: `make bench-nats` runs with all of them")
    return lines


def verdict(goal: float | None, figure: float) -> str:
    if goal is None:
        return ""
    return f"{goal:g}: {'yes' if figure <= goal else 'no'}"


def worker_table(results: worker_cost.Results) -> list[str]:
    """Rows of the worker's CPU per call."""
    first, second = worker_cost.CONCURRENCY
    reply = statistics.median(s.reply_bytes for rows in results.values() for s in rows[first])
    lines = [
        "### A call's CPU in the worker",
        "",
        f"604-byte call, {reply:.0f}-byte reply. The worker has one core, nats-server and the caller the other.",
        "",
        f"| worker | CPU µs/call, {first} in flight | {second} in flight | × `def, inline` "
        f"| calls/s, {second} in flight | errors | goal, µs |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    base = results["def, inline"]
    for name, samples in results.items():
        few, many = ([s.worker_us for s in samples[number]] for number in (first, second))
        ratios = [
            mine.worker_us / its.worker_us
            for number in (first, second)
            for mine, its in zip(samples[number], base[number], strict=True)
        ]
        rate = statistics.median(s.per_second for s in samples[second])
        errors = sum(s.errors for number in (first, second) for s in samples[number])
        worst = max(statistics.median(few), statistics.median(many))
        cells = [
            name,
            spread(few, ".2f"),
            spread(many, ".2f"),
            format(statistics.median(ratios), ".2f"),
            f"{rate:,.0f}",
            str(errors),
            verdict(worker_cost.GOALS.get(name), worst),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    every = [s for rows in results.values() for samples in rows.values() for s in samples]
    broker = spread([s.broker_us for s in every], ".1f")
    return [*lines, "", f"nats-server itself: {broker} µs of CPU per call, acknowledgement included."]


def gateway_tables(results: gateway_cost.Results) -> list[str]:
    """Requests/s and added latency, then added CPU."""
    plain_name, call_name = gateway_cost.ROWS
    lines = ["### What a call adds to a proxied request"]
    for place, rows in results.items():
        lines += [
            "",
            f"With {place}:",
            "",
            "| connections | plain requests/s | with a call | added p50, µs | CPU µs/request, plain "
            "| added by the call | worker, µs | errors |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for concurrency in gateway_cost.CONCURRENCY:
            plain, called = rows[plain_name][concurrency], rows[call_name][concurrency]
            cells = [
                str(concurrency),
                f"{statistics.median(s.rps for s in plain):,.0f}",
                f"{statistics.median(s.rps for s in called):,.0f}",
                spread(gateway_cost.added(plain, called, "p50"), ".0f"),
                spread([s.cpu_us["proxy"] for s in plain], ".1f"),
                spread(gateway_cost.added(plain, called, "cpu"), "+.1f"),
                spread([s.cpu_us["worker"] for s in called], ".1f"),
                str(sum(s.errors for s in (*plain, *called))),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    figure = gateway_cost.goal_figure(results)
    goal = verdict(gateway_cost.GOAL_US, figure)
    return [*lines, "", f"Goal, µs of CPU added in the gateway: {goal} ({figure:.1f} at 64 connections)."]


def scaling_table(results: scaling.Results) -> list[str]:
    """Throughput against linear."""
    lines = [
        "### Throughput with more workers",
        "",
        f"Each handler waits 5 ms, `--concurrency {scaling.PLACES_IN_A_WORKER}`, "
        f"{scaling.CONNECTIONS_PER_WORKER} connections per worker.",
        "",
        "| workers | requests/s | of linear | p50 ms | p99 ms | errors | CPU used | by others |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for count, samples in results.items():
        shares = [
            mine.per_second / (count * one.per_second) for mine, one in zip(samples, results[1], strict=True)
        ]
        cells = [
            str(count),
            f"{statistics.median(s.per_second for s in samples):,.0f}",
            spread(shares, ".0%"),
            f"{statistics.median(s.p50_us for s in samples) / 1e3:.1f}",
            f"{statistics.median(s.p99_us for s in samples) / 1e3:.1f}",
            f"{sum(s.errors for s in samples)} of {sum(s.requests for s in samples):,}",
            f"{statistics.median(s.cpu for s in samples):.0%}",
            f"{statistics.median(s.others for s in samples):.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def unequal_table(results: unequal.Results) -> list[str]:
    """Latency with and without the slow worker, and its share."""
    lines = [
        "### One worker of three is five times slower",
        "",
        f"Handlers wait {unequal.FAST_MS:g} ms, the slow one's {unequal.SLOW_MS:g} ms; "
        f"`--concurrency {unequal.PLACES_IN_A_WORKER}`, as many connections as three quarters of the places.",
        "",
        "| workers | requests/s | p50 ms | p99 ms | calls of the slow one | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, samples in results.items():
        cells = [
            name,
            f"{statistics.median(s.per_second for s in samples):,.0f}",
            spread([s.p50_us / 1e3 for s in samples], ".1f"),
            spread([s.p99_us / 1e3 for s in samples], ".1f"),
            f"{statistics.median(s.slow_share for s in samples):.0%}",
            f"{sum(s.errors for s in samples)} of {sum(s.requests for s in samples):,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    fast, slow, both = (results[name] for name in unequal.SETS)
    p50 = statistics.median(b.p50_us / f.p50_us for b, f in zip(both, fast, strict=True))
    p99 = statistics.median(b.p99_us / s.p99_us for b, s in zip(both, slow, strict=True))
    goals = f"p50 ÷ that of the two fast {p50:.2f}, goal {verdict(unequal.GOAL, p50)}; "
    goals += f"p99 ÷ that of the slow one {p99:.2f}, goal {verdict(unequal.GOAL, p99)}."
    return [*lines, "", goals[0].upper() + goals[1:]]


def measure(given: argparse.Namespace, parts: list[str]) -> tuple[list[str], dict[str, object]]:
    """Runs the parts; the tables, and every sample."""
    tables: list[str] = []
    samples: dict[str, object] = {}
    if "worker" in parts:
        with Processes(RUN) as processes:
            worker = worker_cost.measure(processes, given.rounds, given.seconds)
        tables += ["", *worker_table(worker)]
        samples["worker"] = {
            row: {c: [s.as_json() for s in many] for c, many in by.items()} for row, by in worker.items()
        }
    if "gateway" in parts:
        gateway: gateway_cost.Results = {}
        for place in gateway_cost.PLACES:
            with Processes(RUN) as processes:
                gateway_cost.measure_place(processes, place, given.rounds, given.seconds, gateway)
        tables += ["", *gateway_tables(gateway)]
        samples["gateway"] = {
            place: {
                row: {c: [s.as_json() for s in many] for c, many in by.items()} for row, by in rows.items()
            }
            for place, rows in gateway.items()
        }
    if "scaling" in parts:
        with Processes(RUN) as processes:
            scaled = scaling.measure(processes, given.rounds, given.seconds)
        tables += ["", *scaling_table(scaled)]
        samples["scaling"] = {count: [s.as_json() for s in many] for count, many in scaled.items()}
    if "unequal" in parts:
        with Processes(RUN) as processes:
            unlike = unequal.measure(processes, given.rounds, given.seconds)
        tables += ["", *unequal_table(unlike)]
        samples["unequal"] = {name: [s.as_json() for s in many] for name, many in unlike.items()}
    return tables, samples


def main() -> int:
    given = arguments()
    if given.quick:
        given.rounds, given.seconds = 1, 1
    RUN.mkdir(exist_ok=True)
    if (os.cpu_count() or 1) < 2:
        print("two cores are needed: one for what is measured, one for its load", file=sys.stderr)
        return 1
    if lacking := missing():
        print("\n".join(lacking), file=sys.stderr)
        return 1
    # SIGTERM ends a run as Ctrl-C does: in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        tables, samples = measure(given, given.part or list(PARTS))
    except Failed as failure:
        print(f"the measurement failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: everything that was started is ended", file=sys.stderr)
        return 130
    about = {name: value for name, value in machine().items() if name != "haproxy"}
    about |= {"rounds": str(given.rounds), "seconds": f"{given.seconds:g}"}
    text = "\n".join([", ".join(f"{name} {value}" for name, value in about.items()), *tables]) + "\n"
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.with_suffix(".md").write_text(text)
    given.output.with_suffix(".json").write_text(json.dumps({"machine": about, "samples": samples}, indent=1))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
