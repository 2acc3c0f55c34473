"""The command line: what people type, turned into calls of the library.

Thin on purpose: every command does what a few lines of Python with the public API could do, adds an environment
variable for each flag, and turns `NylonError`s into a message and exit code 1 (2 is a usage error). What a
command needs is imported inside it, so that `nylon --help` is quick.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="nylon",
    help="An HTTP gateway that people extend with plugins: in process, or on any number of NATS workers.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Execution(StrEnum):
    """Where `def` handlers run in a worker."""

    thread = "thread"
    inline = "inline"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", envvar="NYLON_CONFIG", help="The configuration file."),
]


def main() -> None:
    """Run the command line; what `nylon` and `python -m nylon` call."""
    from nylon.errors import NylonError

    try:
        app(prog_name="nylon")
    except NylonError as error:
        fail(str(error))


def say(text: str) -> None:
    """Print to standard error: standard output belongs to what a command was asked for."""
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    """Print what went wrong and end with exit code 1."""
    say(f"nylon: {text}")
    raise SystemExit(1)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version and exit.")
    ] = False,
) -> None:
    """Without a command, `nylon --config FILE` is `nylon run -c FILE`."""
    if version:
        from nylon import _core

        print(f"nylon {_core.version}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        source = context.get_parameter_source("config")
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"write it behind the command: nylon {context.invoked_subcommand} -c {config}"
            )
        return
    if config is None:
        print(context.get_help())
        raise typer.Exit(2)
    run(config)


@app.command()
def run(config: ConfigOption = None) -> None:
    """Run a gateway. Ctrl-C or SIGTERM drains, a second one stops at once."""
    path = required(config)
    from nylon.gateway import Gateway

    configure_logging()
    gateway = Gateway.from_file(path)
    for warning in gateway.warnings:
        say(f"warning: {warning}")
    with stop_signals() as wait_for_signal:
        gateway.start()
        say("nylon: listening on " + ", ".join(gateway.urls))
        wait_for_signal()
        say("nylon: draining (once more to stop at once)")
        # In a thread of its own, so that this one stays free to take the second signal.
        with ThreadPoolExecutor(1, thread_name_prefix="nylon-drain") as pool:
            pool.submit(gateway.stop).result()


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check a configuration: print every error and warning, start nothing. Exit code 1 if there is an error."""
    path = required(config)
    from nylon import _core

    found = _core.check_config(path)
    for error in found.errors:
        say(f"error: {error}\n")
    for warning in found.warnings:
        say(f"warning: {warning}\n")
    for broker in found.brokers:
        for problem in unreachable(broker.servers):
            say(
                f"warning: {broker.place}: broker `{broker.name}`: {problem}; routes that need it would answer 503\n"
            )
    if found.errors:
        count = len(found.errors)
        fail(f"{path}: {count} error{'s' if count > 1 else ''}")
    print(f"{path}: ok")


@app.command()
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


@app.command()
def schema() -> None:
    """Print the configuration's JSON Schema, for editors."""
    from nylon import _core

    print(_core.json_schema())


@app.command()
def demo(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            metavar="",
            help="Try everything, say what came back, and exit: 0 if all was right, else 1.",
        ),
    ] = False,
) -> None:
    """Start a NATS server, two workers, an origin and a gateway, and say what to try."""
    from nylon.demo import Demo

    configure_logging(level="WARN")
    with stop_signals() as wait_for_signal, Demo() as running:
        if check:
            raise typer.Exit(running.check())
        print("Ctrl-C stops all of it.", flush=True)
        wait_for_signal()
        say("stopping")


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


def required(config: Path | None) -> Path:
    """The configuration file, or a usage error."""
    if config is None:
        raise typer.BadParameter("give the configuration file: -c FILE, or NYLON_CONFIG")
    return config


def configure_logging(*, level: str = "INFO") -> None:
    """Log to standard error, the gateway's Rust half too. NYLON_LOG sets the level, for child processes as well."""
    from nylon import _core
    from nylon.logs import log_to_stderr

    if os.environ.setdefault("NYLON_LOG", level).upper() == "WARNING":
        os.environ["NYLON_LOG"] = "WARN"  # the word that both halves know
    _core.start_logging(level)
    log_to_stderr("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], object]]:
    """Take SIGINT and SIGTERM within the block, whose value waits for the first; the second ends the process.

    A `SimpleQueue` and `os.write`, since a handler may interrupt this very thread inside any lock or print.
    """
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
    asked = False

    def handle(number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            os.write(2, b"nylon: stopped at once\n")
            os._exit(1)
        asked = True
        arrived.put(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield arrived.get
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def unreachable(servers: list[str], timeout: float = 2.0) -> list[str]:
    """One line per NATS server that takes no connection within `timeout` seconds."""
    import socket
    from urllib.parse import urlsplit

    problems = []
    for server in servers:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        place = parts.netloc.rpartition("@")[2]  # without credentials
        try:
            address = (parts.hostname or "localhost", parts.port or 4222)
            socket.create_connection(address, timeout).close()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            problems.append(f"no NATS server answers at {place} ({why})")
    return problems
