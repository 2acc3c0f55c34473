"""The command line: what people type, turned into calls of the library.

Thin on purpose: every command does what a few lines of Python with the public API could do, adds an environment
variable for each flag, and turns `NylonError`s into a message and exit code 1 (2 is a usage error). What a
command needs is imported inside it, so that `nylon --help` is quick.
"""

from __future__ import annotations

import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nylon.control_command import reload, status
from nylon.terminal import configure_logging, fail, say, stop_signals, unreachable
from nylon.worker_command import worker

if TYPE_CHECKING:
    from nylon.gateway import Gateway

app = typer.Typer(
    name="nylon",
    help="An HTTP gateway that people extend with plugins: in process, or on any number of NATS workers.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

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
    """Run a gateway. Ctrl-C or SIGTERM drains, a second one stops at once; SIGHUP reloads the configuration."""
    path = required(config)
    from nylon.gateway import Gateway

    configure_logging()
    gateway = Gateway.from_file(path)
    for warning in gateway.warnings:
        say(f"warning: {warning}")
    with stop_signals(also=[signal.SIGHUP]) as wait_for_signal:
        gateway.start()
        say("nylon: listening on " + ", ".join(gateway.urls))
        # What takes time runs in threads of its own, so that this one stays free to take signals.
        wanted = threading.Event()
        threading.Thread(target=reload_when, args=(wanted, gateway), name="nylon-reload", daemon=True).start()
        while wait_for_signal() == signal.SIGHUP:
            wanted.set()
        say("nylon: draining (once more to stop at once)")
        with ThreadPoolExecutor(1, thread_name_prefix="nylon-drain") as pool:
            pool.submit(gateway.stop).result()


def reload_when(wanted: threading.Event, gateway: Gateway) -> NoReturn:
    """Reload each time that it is wanted; whatever comes of it is in the log, and the gateway goes on."""
    from nylon.errors import NylonError

    while True:
        wanted.wait()
        wanted.clear()  # before the files are read: a change after that is wanted anew
        try:
            gateway.reload()
        except NylonError:
            pass  # `reload` has logged it
        except Exception:
            logging.getLogger("nylon.gateway").exception("the reload failed, the running configuration stays")


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


app.command()(worker)
app.command()(reload)
app.command()(status)


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


def required(config: Path | None) -> Path:
    """The configuration file, or a usage error."""
    if config is None:
        raise typer.BadParameter("give the configuration file: -c FILE, or NYLON_CONFIG")
    return config
