"""The samples as a Markdown table and as JSON.

Rounds are interleaved, so a ratio is taken within each round (the machine's mood is the same for both) and the
median of the ratios is shown, not the ratio of the medians.
"""

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

from engine import found
from load import SCENARIOS, Sample

Results = dict[str, dict[str, list[Sample]]]
"""Scenario → row → its sample of each round."""


def machine() -> dict[str, str]:
    """What the figures depend on, without saying whose machine it is."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    described = {
        "processor": f"{os.cpu_count()} cores, {model[1].strip() if model else platform.machine()}",
        "kernel": re.sub(r"-.*", "", platform.release()),
        "python": platform.python_version(),
    }
    for program, argument in (("nginx", "-v"), ("haproxy", "-v")):
        if path := found(program):
            done = subprocess.run([path, argument], capture_output=True, text=True)
            version = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
            described[program] = version[0] if version else "?"
    return described


def spread(values: list[float], form: str) -> str:
    """Median, and min–max where there is more than one."""
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}}–{max(values):{form}})"


def markdown(results: Results, about: dict[str, str], left_out: list[str]) -> str:
    """All tables."""
    lines = [", ".join(f"{name} {value}" for name, value in about.items())]
    if left_out:
        lines.append(f"Left out by request: {', '.join(left_out)}.")
    for scenario in SCENARIOS:
        if rows := results.get(scenario.name):
            lines += ["", f"### {scenario.title}", "", *table(rows)]
    return "\n".join(lines) + "\n"


def table(rows: dict[str, list[Sample]]) -> list[str]:
    """One scenario."""
    lines = [
        "| row | CPU µs/request | × nginx | + µs on `nylon` | requests/s | p50 ms | p99 ms | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, samples in rows.items():
        others = {role for sample in samples for role in sample.cpu_us} - {"proxy"}
        cells = [
            name,
            spread(cpu(samples), ".1f"),
            paired(samples, rows.get("nginx"), lambda mine, its: mine / its, ".2f"),
            paired(samples, rows.get("nylon"), lambda mine, its: mine - its, "+.1f")
            if name.startswith("nylon ")
            else "",
            f"{statistics.median(sample.rps for sample in samples):,.0f}",
            f"{statistics.median(sample.p50_us for sample in samples) / 1e3:.2f}",
            f"{statistics.median(sample.p99_us for sample in samples) / 1e3:.2f}",
            errors(samples),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        for role in sorted(others, reverse=True):
            used = [sample.cpu_us[role] for sample in samples]
            lines.append(f"| – its {role} | {spread(used, '.1f')} | | | | | | |")
    return lines


def cpu(samples: list[Sample]) -> list[float]:
    return [sample.cpu_us["proxy"] for sample in samples]


def paired(
    samples: list[Sample], base: list[Sample] | None, by: Callable[[float, float], float], form: str
) -> str:
    """The median over the rounds of a row's CPU compared with another's in the same round."""
    if base is None or base is samples:
        return ""
    pairs = zip(cpu(samples), cpu(base), strict=False)
    return format(statistics.median(by(mine, its) for mine, its in pairs), form)


def errors(samples: list[Sample]) -> str:
    """The errors of all rounds, and among how many requests where there are any."""
    count = sum(sample.errors for sample in samples)
    return f"{count} of {sum(sample.requests for sample in samples):,}" if count else "0"


def as_json(results: Results, about: dict[str, str], left_out: list[str]) -> str:
    """Every sample."""
    samples = {
        scenario: {name: [sample.as_json() for sample in samples] for name, samples in rows.items()}
        for scenario, rows in results.items()
    }
    return json.dumps({"machine": about, "left_out": left_out, "samples": samples}, indent=1)
