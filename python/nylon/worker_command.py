"""`nylon worker`: its flags, each with an environment variable, and what they come to."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nylon.terminal import configure_logging, say, unreachable

__all__ = ["worker"]


class Execution(StrEnum):
    """Where `def` handlers run in a worker."""

    thread = "thread"
    inline = "inline"


def worker(
    plugin: Annotated[
        str, typer.Argument(metavar="APP:PLUGIN", help="The plugin: module:attribute, or file.py:attribute.")
    ],
    nats: Annotated[
        str | None,
        typer.Option(
            "--nats",
            metavar="URL",
            envvar="NATS_SERVERS",
            help="The broker, or several separated by commas. Default: the plugin's own, then nats://127.0.0.1:4222.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="GROUP",
            envvar="NATS_GROUP",
            help="The queue group, as the gateway's configuration names it. Default: the plugin's own.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, metavar="N", envvar="NYLON_WORKERS", help="Processes.")
    ] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            metavar="N",
            min=1,
            envvar="NYLON_CONCURRENCY",
            help="Calls that run at once in each; further ones are told so at once. Default: 64.",
        ),
    ] = None,
    execution: Annotated[
        Execution | None,
        typer.Option(
            "--execution",
            envvar="NYLON_EXECUTION",
            help="Where def handlers run: in a pool of threads (default), or on the event loop.",
        ),
    ] = None,
    drain_timeout: Annotated[
        float | None,
        typer.Option(
            "--drain-timeout",
            metavar="SECONDS",
            min=0,
            envvar="NYLON_DRAIN_TIMEOUT",
            help="Seconds that running calls get once it is asked to stop. Default: 30.",
        ),
    ] = None,
    app_dir: Annotated[
        Path | None,
        typer.Option(
            "--app-dir",
            metavar="DIR",
            envvar="NYLON_APP_DIR",
            help="Where the plugin is imported from. Default: the working directory.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            metavar="",
            help="Load the plugin, say what it serves and whether the broker answers; exit.",
        ),
    ] = False,
) -> None:
    """Serve a plugin over NATS. Ctrl-C or SIGTERM drains, a second one stops at once."""
    given: dict[str, Any] = {
        "servers": [part.strip() for part in (nats or "").split(",") if part.strip()] or None,
        "group": group,
        "concurrency": concurrency,
        "execution": execution.value if execution is not None else None,
        "drain_timeout": drain_timeout,
    }
    options = {name: value for name, value in given.items() if value is not None}
    directory = str(app_dir) if app_dir is not None else None
    configure_logging()
    if check:
        check_worker(plugin, directory, options)
        return
    from nylon.supervisor import run_workers

    raise typer.Exit(run_workers(plugin, workers=workers, app_dir=directory, **options))


def check_worker(plugin: str, app_dir: str | None, options: dict[str, Any]) -> None:
    """Load a plugin as a worker would, and say what it would serve."""
    import asyncio

    from nylon.serving import served_phases
    from nylon.worker import WorkerSpec, resolve

    loaded, settings = resolve(WorkerSpec(plugin=plugin, app_dir=app_dir, overrides=options))
    for entry, phases in asyncio.run(served_phases(loaded, settings)).items():
        print(f"{entry}: {', '.join(phases)}")
    for problem in unreachable(list(settings.servers)):
        say(f"warning: {problem}")
    print(f"{plugin}: ok, for group {settings.group}")
