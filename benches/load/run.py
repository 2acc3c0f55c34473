"""Measures Nylon against other proxies, all in one run: `make bench`, or `python benches/load/run.py --help`.

Each engine has one core to itself and stays up for the whole run; the client (wrk, h2load) and the origin share the
other core. Rounds are interleaved (every engine once, then every engine again) with one client at a time, so that
whatever disturbs the machine disturbs all of them. The figure that counts is the CPU time per request of the proxy's
own process: throughput on a shared loopback says as much of the client as of the proxy.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import report
from engine import (
    ENGINES,
    NATIVE,
    RUN,
    Engine,
    Running,
    install_mitmproxy,
    missing,
    start_engine,
    start_origin,
    start_stale_origin,
)
from load import SCENARIOS, Scenario, measure
from process import Failed, Processes

ENGINE_CORE = 0
LOAD_CORE = 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [engine.name for engine in ENGINES]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of one run of a client")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second each: does it all work?"
    )
    parser.add_argument(
        "--only", action="append", metavar="ROW", choices=names, help=f"measure this row: {', '.join(names)}"
    )
    parser.add_argument(
        "--native",
        action="store_true",
        help="measure the rows with native plugins, and what they are compared with",
    )
    parser.add_argument("--without", action="append", metavar="ROW", choices=names, default=[])
    parser.add_argument(
        "--scenario", action="append", metavar="NAME", choices=[scenario.name for scenario in SCENARIOS]
    )
    parser.add_argument(
        "--output", type=Path, default=RUN / "results", help="prefix of the .md and .json files"
    )
    return parser.parse_args()


def measure_scenario(
    scenario: Scenario, engines: list[Engine], given: argparse.Namespace, results: report.Results
) -> None:
    """Starts what a scenario needs, drives every engine in every round, ends everything."""
    with Processes(RUN) as processes:
        start = start_stale_origin if scenario.name == "stale" else start_origin
        _, origin = start(processes, LOAD_CORE)
        running: list[tuple[Engine, Running]] = []
        for engine in engines:
            running.append((engine, start_engine(processes, engine, origin, ENGINE_CORE)))
        for _, target in running:
            measure(processes, target, scenario, given.connections, 1, LOAD_CORE)  # warms it up
        for number in range(given.rounds):
            for engine, target in running:
                sample = measure(processes, target, scenario, given.connections, given.seconds, LOAD_CORE)
                results.setdefault(scenario.name, {}).setdefault(engine.name, []).append(sample)
                print(
                    f"{scenario.name:10} {number + 1}/{given.rounds} {engine.name:18}"
                    f"{sample.cpu_us['proxy']:9.1f} µs {sample.rps:9.0f}/s {sample.details}",
                    file=sys.stderr,
                    flush=True,
                )
                time.sleep(0.2)


def main() -> int:
    given = arguments()
    if given.native:
        given.only = [*(given.only or []), "nginx", "nylon", "nylon inline", *NATIVE]
        given.scenario = given.scenario or ["small", "paced"]
    if given.quick:
        given.rounds, given.seconds = 1, 1
    engines = [
        engine
        for engine in ENGINES
        if (not given.only or engine.name in given.only) and engine.name not in given.without
    ]
    left_out = [engine.name for engine in ENGINES if engine not in engines]
    RUN.mkdir(exist_ok=True)
    if (os.cpu_count() or 1) < 2:
        print("two cores are needed: one for the proxy, one for its load", file=sys.stderr)
        return 1
    if lacking := missing(engines):
        print("\n".join(lacking), file=sys.stderr)
        print("Leave a row out with --without ROW; nothing is skipped by itself.", file=sys.stderr)
        return 1
    # SIGTERM ends a run as Ctrl-C does: in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: report.Results = {}
    try:
        if any(engine.name == "mitmproxy" for engine in engines):
            install_mitmproxy()
        for scenario in SCENARIOS:
            if given.scenario and scenario.name not in given.scenario:
                continue
            chosen = [engine for engine in engines if scenario.name in engine.scenarios]
            measure_scenario(scenario, chosen, given, results)
    except Failed as failure:
        print(f"the measurement failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: everything that was started is ended", file=sys.stderr)
        return 130
    about = report.machine()
    text = report.markdown(results, about, left_out)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.with_suffix(".md").write_text(text)
    given.output.with_suffix(".json").write_text(report.as_json(results, about, left_out))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
