"""What a host's language cannot express: entry by entry, with the reason.

The suite leaves the routes of such entries out of its configuration, and a case that asks for one of them is skipped
with the reason. `test_entries.py` checks that every entry is either in the plugin or here, and docs/native-abi.md shows
the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from support.configs import Config

Reasons = dict[str, str]
"""Entry → reason."""


def because(reason: str, entries: str) -> Reasons:
    """The same reason for several entries, which are separated by spaces."""
    return dict.fromkeys(entries.split(), reason)


PYTHON_ONLY = {
    **because(
        "asyncio, and the libraries and context variables around it, are Python's",
        "timeout-passes timeout-strikes task-group current-task aiohttp httpx context-variable"
        " context-variable-blocking",
    ),
    **because("this sort of raise is Python's", "raise-exit raise-cancelled"),
}
"""What no other language has."""

NATIVE = {
    **PYTHON_ONLY,
    **because("the ABI joins the lines of a repeated header", "read-repeated"),
    **because(
        "the ABI has no state that travels: a session keeps its own",
        "state state-in-setup state-too-large state-impossible",
    ),
    **because("the ABI answers a body that was not read with nothing", "read-response-body-early"),
}
"""What no native library can say, whatever it is written in."""

C = {
    **NATIVE,
    **because(
        "C has no exceptions: a change that is not allowed makes the phase fail",
        "refused-writes write-too-late",
    ),
    **because("C has no exceptions: a second decision is refused, and the first one stands", "end-then-next"),
    **because("C has no exceptions, whose names this entry tells", "stream-misused"),
    **because("C cannot notice that a pointer is used for longer than it is valid", "keep-context"),
}

GO: Reasons = {
    **because(
        "asyncio is Python's", "current-task aiohttp httpx mixed context-variable context-variable-blocking"
    ),
    **because(
        "a handler in Go has a goroutine that may wait: a body need not be declared to be read",
        "read-body-undeclared",
    ),
    **because(
        "there is no state in Go: what phases share is in closures",
        "state state-in-setup state-too-large state-impossible",
    ),
}
"""What Go has not, wherever it runs."""

OF_RUST = ["task-group", "raise-exit", "raise-cancelled", "state", "state-in-setup"]
"""What only Rust has of what other libraries have not: scoped threads, panics of several sorts, the SDK's own state."""

RUST: Reasons = {
    **{entry: why for entry, why in NATIVE.items() if entry not in OF_RUST},
    **because("the compiler refuses to keep a context beyond its phase", "keep-context"),
    **because("the compiler refuses to write to a stream after its end", "stream-misused"),
    **because(
        "state stays in the process, so it is of any size and kind", "state-too-large state-impossible"
    ),
}

UNEXPRESSED: dict[str, Reasons] = {
    "native-c": C,
    "native-process": C,
    "remote-go": {**GO, **because("a worker has no inline handlers in Go", "stream-inline-large")},
    "native-rust": RUST,
    "native-go": {**GO, **{entry: NATIVE[entry] for entry in ("read-repeated", "read-response-body-early")}},
}
"""Host → what it cannot express; a host that is not here can express everything."""


def page_table(hosts: Iterable[str], entries: int) -> str:
    """The table of docs/native-abi.md: what each host runs of the suite's entries."""
    lines = ["| host | entries | the others, and why |", "| --- | --- | --- |"]
    for host in hosts:
        reasons = UNEXPRESSED.get(host, {})
        by_reason: dict[str, list[str]] = {}
        for entry, reason in reasons.items():
            by_reason.setdefault(reason, []).append(f"`{entry}`")
        whys = [f"{why}: {', '.join(names)}" for why, names in by_reason.items()]
        lines.append(f"| `{host}` | {entries - len(reasons)} of {entries} | {'; '.join(whys) or '–'} |")
    return "\n".join(lines)


def without_unexpressed(config: Config, reasons: Reasons) -> tuple[Config, Reasons]:
    """A configuration without the routes of such entries, and why each of those routes is not there.

    The name of a route is the first segment of its path.
    """

    def reason(rule: Any) -> str | None:
        return reasons.get(rule.get("entry", ""))

    services = {
        service["name"]: why for service in config["services"] if (why := reason(service.get("plugin", {})))
    }
    omitted: Reasons = {}

    def stays(rule: Any) -> bool:
        whys = [reason(middleware) for middleware in rule.get("middleware", [])]
        whys.append(services.get(rule["service"]["name"]))
        for why in filter(None, whys):
            omitted[rule["path"].split("/")[1]] = why
        return not any(whys)

    routes = [
        {**route, "paths": [path for path in route["paths"] if stays(path)]} for route in config["routes"]
    ]
    kept = [service for service in config["services"] if service["name"] not in services]
    return {**config, "routes": routes, "services": kept}, omitted
