"""`nylon reload` and `nylon status`: questions to a gateway that runs, and its answers for people or programs."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from nylon.terminal import fail, say

__all__ = ["reload", "status"]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="NYLON_CONFIG",
        help="The gateway's configuration file, whose `control:` says where to ask.",
    ),
]
ControlSocket = Annotated[
    Path | None,
    typer.Option(
        "--control", metavar="PATH", envvar="NYLON_CONTROL", help="The gateway's control socket itself."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]


def reload(
    config: Config = None,
    control: ControlSocket = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", metavar="", help="Switch although a new plugin is not ready: no worker, no broker."
        ),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, max=3600, help="How long new plugins have to be ready."
        ),
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Make a running gateway read its configuration again. Exit code 1 if it refuses: then nothing has changed."""
    from nylon.control import ask

    done = ask(_socket(config, control), "reload", force=force, wait=wait, timeout=wait + 120)
    if as_json:
        print(json.dumps(done))
        return
    for warning in done["warnings"]:
        say(f"warning: {warning}")
    print(f"reloaded, generation {done['generation']}")
    for what in ("started", "kept", "ended"):
        if done[what]:
            print(f"  {what}: {', '.join(done[what])}")


def status(config: Config = None, control: ControlSocket = None, as_json: AsJson = False) -> None:
    """Show what a running gateway runs: generation, addresses, certificates, plugins, groups of workers, mirrors."""
    from nylon.control import ask

    found = ask(_socket(config, control), "status", timeout=10.0)
    if as_json:
        print(json.dumps(found))
    else:
        print("\n".join(described(found)))


def _socket(config: Path | None, control: Path | None) -> Path:
    from nylon import _core

    if control is not None:
        return control
    if config is None:
        raise typer.BadParameter(
            "give the configuration file (-c FILE), or the control socket (--control PATH)"
        )
    found = _core.control_socket(config)
    if found is not None:
        return found
    errors = _core.check_config(config).errors
    for error in errors:
        say(f"error: {error}\n")
    if errors:
        fail(f"{config}: no gateway was asked: the file does not say where one is")
    return fail(
        f"{config} names no control socket: add `control: nylon.sock` and start the gateway again, "
        "or send SIGHUP to its process"
    )


def described(status: dict[str, Any]) -> list[str]:
    """The lines of `nylon status`."""
    if not status:
        return ["the gateway is starting or stopping"]
    reloads = status["reloads"]
    lines = [
        f"nylon {status['version']}, process {status['pid']}, up {status['uptime_seconds']:.0f} s",
        f"configuration: {status['config']}, generation {status['generation']}"
        + f" ({reloads['done']} reloads, {reloads['refused']} refused)",
        f"listening on {', '.join(status['listeners'])}",
    ]
    if status["retiring"]:
        lines.append(f"{status['retiring']} earlier generations still finish what they have begun")
    if refusal := reloads["last_refusal"]:
        lines += [
            f"last refused reload, {_when(refusal['at'])}:",
            *(f"  {line}" for line in refusal["reason"].splitlines()),
        ]
    for certificate in status["certificates"]:
        lines += ["", *_certificate(certificate)]
    for service in status["services"]:
        lines += ["", *_service(service)]
    for plugin in status["plugins"]:
        state = "ready" if plugin["ready"] else f"not ready: {plugin['reason']}"
        lines += ["", f"plugin {plugin['name']} ({plugin['kind']}): {state}"]
        if "abi" in plugin:
            lines.append(f"  ABI version {plugin['abi']}, sessions open: {plugin['sessions']}")
        if refused := _counts(plugin.get("refused_calls", {})):
            lines.append(f"  calls of the library that were refused: {refused}")
        lines += _processes(plugin)
        groups = plugin.get("groups", [])
        mirror = plugin.get("mirror")
        rows = [_row(group, f"{group['weight']}") for group in groups]
        if mirror:
            rows.append(_row(mirror, "mirror"))
        if rows:
            lines += _table(rows)
        failed = [(group["name"], group["failed"]) for group in [*groups, *([mirror] if mirror else [])]]
        lines += [f"  {name} failed: {_counts(kinds)}" for name, kinds in failed if kinds]
        if mirror:
            compared = f"agreed {mirror['agreed']}, differed {mirror['differed']}"
            lines.append(f"  {mirror['name']} {compared}, dropped: {_counts(mirror['dropped']) or 'none'}")
    return lines


def _certificate(certificate: dict[str, Any]) -> list[str]:
    until, acme = certificate["not_after"], certificate["acme"]
    line = f"certificate for {', '.join(certificate['domains'])}: "
    line += "none yet" if until is None else f"valid until {_when(until)}"
    if acme is None:
        return [line]
    due, problem = _when(acme["due"]), acme["problem"]
    step = "tried again" if problem else "renewed" if until is not None else "ordered"
    lines = [f"{line}, to be {step} at {due}", f"  from {acme['directory_url']}"]
    return [*lines, f"  failed: {problem}"] if problem else lines


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def _service(service: dict[str, Any]) -> list[str]:
    """The lines of a service: its endpoints, their states and requests."""
    pending = f", {service['pending']} requests wait for a place" if service["pending"] else ""
    endpoints = service["endpoints"]
    width = max((len(endpoint["address"]) for endpoint in endpoints), default=0)
    return [
        f"service {service['name']}{pending}",
        *(
            f"  {one['address'].ljust(width)}  {one['state'].ljust(10)}  {one['in_flight']} in flight"
            for one in endpoints
        ),
    ]


def _processes(plugin: dict[str, Any]) -> list[str]:
    """The lines of a plugin that has processes of its own."""
    if plugin.get("isolation") != "process":
        return []
    lines = [
        f"  process {one['pid']}: up {one['uptime_seconds']} s, {one['calls']} calls now, {one['answered']} answered"
        + (", silent since a call timed out" if one["silent"] else "")
        for one in plugin["processes"]
    ]
    lines += [f"  no process: {why}" for why in plugin["missing"]]
    return [*lines, f"  processes that died: {plugin['restarts']}, calls run again: {plugin['retried']}"]


HEAD = ("group", "weight", "workers", "in flight", "next", "end", "failed", "p50 ms", "p99 ms")


def _row(group: dict[str, Any], weight: str) -> list[str]:
    times = ["-" if group[key] is None else f"{group[key]:.1f}" for key in ("p50_ms", "p99_ms")]
    counts = (
        group["workers"],
        group["in_flight"],
        group["next"],
        group["end"],
        sum(group["failed"].values()),
    )
    return [group["name"], weight, *map(str, counts), *times]


def _table(rows: list[list[str]]) -> list[str]:
    all_rows = [list(HEAD), *rows]
    widths = [max(len(row[at]) for row in all_rows) for at in range(len(HEAD))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in all_rows
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
