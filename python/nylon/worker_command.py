"""`nylon worker`: its flags, each with an environment variable, and what they come to.

A flag that is not given leaves the matter to the plugin, where that is a `NatsPlugin` with options of its own, and to
the defaults of `WorkerOptions` after that; hence the many `None`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nylon.terminal import configure_logging

__all__ = ["worker"]

SERVE, BROKER, CAPACITY = "What to serve", "Broker", "Capacity"
LIFE, DEVELOPMENT = "Life", "Development"


ACCESS = {
    "user": "user",
    "password": "password",
    "token": "token",
    "creds": "credentials",
    "nkey": "nkey_seed",
    "tls_ca": "tls_ca",
    "tls_cert": "tls_cert",
    "tls_key": "tls_key",
    "tls_hostname": "tls_hostname",
}
"""Parameters of the command that say who the worker is to the broker, and their fields of `WorkerOptions`."""


class Execution(StrEnum):
    """Where `def` handlers run in a worker."""

    thread = "thread"
    inline = "inline"


class Transport(StrEnum):
    """How a worker takes its messages from its connection."""

    hooked = "hooked"
    plain = "plain"


def option(panel: str, *flags: str, variable: str, help: str, **more: Any) -> Any:
    """An option with its environment variable, in a panel of the help."""
    return typer.Option(*flags, envvar=variable, help=help, rich_help_panel=panel, show_default=False, **more)


def worker(
    context: typer.Context,
    plugin: Annotated[
        str,
        typer.Argument(
            metavar="APP:PLUGIN",
            help="The plugin: module:attribute, or file.py:attribute. The attribute is `plugin` if left out.",
        ),
    ],
    # ---- what to serve ----
    app_dir: Annotated[
        Path | None,
        option(
            SERVE,
            "--app-dir",
            variable="NYLON_APP_DIR",
            metavar="DIR",
            help="Where the plugin is imported from. Default: the working directory.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        option(
            SERVE,
            "--config",
            variable="NYLON_PLUGIN_CONFIG",
            metavar="FILE|JSON",
            help="What the plugin's `initialize` gets: a JSON file, or JSON itself. Read by each process as it starts.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        option(
            SERVE,
            "--group",
            variable="NATS_GROUP",
            metavar="GROUP",
            help="The queue group, as the gateway's configuration names it. Default: the plugin's own.",
        ),
    ] = None,
    subject_prefix: Annotated[
        str | None,
        option(
            SERVE,
            "--subject-prefix",
            variable="NYLON_SUBJECT_PREFIX",
            metavar="PREFIX",
            help="First part of every subject, as in the gateway's configuration. Default: nylon.",
        ),
    ] = None,
    # ---- broker ----
    nats: Annotated[
        str | None,
        option(
            BROKER,
            "--nats",
            variable="NATS_SERVERS",
            metavar="URL",
            help="The broker, or several separated by commas. Default: the plugin's own, then nats://127.0.0.1:4222.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        option(
            BROKER,
            "--name",
            variable="NYLON_WORKER_NAME",
            metavar="NAME",
            help="Shown in the broker's list of connections. Default: the group and the worker's id.",
        ),
    ] = None,
    user: Annotated[
        str | None, option(BROKER, "--user", variable="NATS_USER", metavar="NAME", help="User name.")
    ] = None,
    password: Annotated[
        str | None,
        option(
            BROKER,
            "--password",
            variable="NATS_PASSWORD",
            metavar="SECRET",
            help="Its password. Better in the variable: others on this machine can read a command line.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        option(
            BROKER,
            "--token",
            variable="NATS_TOKEN",
            metavar="SECRET",
            help="A token instead of user and password; better in the variable, too.",
        ),
    ] = None,
    creds: Annotated[
        Path | None,
        option(
            BROKER,
            "--creds",
            variable="NATS_CREDS",
            metavar="FILE",
            help="A .creds file: a JWT and its nkey seed.",
        ),
    ] = None,
    nkey: Annotated[
        Path | None,
        option(BROKER, "--nkey", variable="NATS_NKEY", metavar="FILE", help="A file with an nkey seed."),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        option(
            BROKER,
            "--tls-ca",
            variable="NATS_CA",
            metavar="FILE",
            help="PEM file of the authority behind the broker's certificate, where the system does not know it.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        option(
            BROKER, "--tls-cert", variable="NATS_CERT", metavar="FILE", help="Client certificate, PEM file."
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        option(BROKER, "--tls-key", variable="NATS_KEY", metavar="FILE", help="Its key, PEM file."),
    ] = None,
    tls_hostname: Annotated[
        str | None,
        option(
            BROKER,
            "--tls-hostname",
            variable="NATS_TLS_HOSTNAME",
            metavar="NAME",
            help="The name in the broker's certificate, where it is not the one in the URL.",
        ),
    ] = None,
    # ---- capacity ----
    workers: Annotated[
        int,
        option(
            CAPACITY,
            "--workers",
            variable="NYLON_WORKERS",
            metavar="N",
            min=1,
            help="Processes. Default: 1. SIGTTIN and SIGTTOU make it one more, one less.",
        ),
    ] = 1,
    concurrency: Annotated[
        int | None,
        option(
            CAPACITY,
            "--concurrency",
            variable="NYLON_CONCURRENCY",
            metavar="N",
            min=1,
            help="Calls that run at once in each; further ones are told so at once. Default: 64.",
        ),
    ] = None,
    execution: Annotated[
        Execution | None,
        option(
            CAPACITY,
            "--execution",
            variable="NYLON_EXECUTION",
            help="Where def handlers run: in a pool of threads (default), or on the event loop.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        option(
            CAPACITY,
            "--threads",
            variable="NYLON_THREADS",
            metavar="N",
            min=1,
            help="The pool's size, for def handlers. Default: 4.",
        ),
    ] = None,
    transport: Annotated[
        Transport | None,
        option(
            CAPACITY,
            "--transport",
            variable="NYLON_TRANSPORT",
            help="How messages come in: from the connection's bytes (default), or through nats-py's own callbacks, "
            "which is slower and needs nothing but its public API.",
        ),
    ] = None,
    # ---- life ----
    drain_timeout: Annotated[
        float | None,
        option(
            LIFE,
            "--drain-timeout",
            variable="NYLON_DRAIN_TIMEOUT",
            metavar="SECONDS",
            min=0,
            help="What running calls get once a worker is asked to stop. Default: 30.",
        ),
    ] = None,
    max_requests: Annotated[
        int | None,
        option(
            LIFE,
            "--max-requests",
            variable="NYLON_MAX_REQUESTS",
            metavar="N",
            min=1,
            help="Replace a process after so many calls; the new one serves before the old one leaves.",
        ),
    ] = None,
    max_requests_jitter: Annotated[
        int | None,
        option(
            LIFE,
            "--max-requests-jitter",
            variable="NYLON_MAX_REQUESTS_JITTER",
            metavar="N",
            min=0,
            help="Up to so many calls more, at random for each process. Default: a tenth of --max-requests.",
        ),
    ] = None,
    max_rss: Annotated[
        float | None,
        option(
            LIFE,
            "--max-rss",
            variable="NYLON_MAX_RSS",
            metavar="MB",
            min=1,
            help="Replace a process that holds more memory than this, in the same way.",
        ),
    ] = None,
    ready_file: Annotated[
        Path | None,
        option(
            LIFE,
            "--ready-file",
            variable="NYLON_READY_FILE",
            metavar="FILE",
            help="Made once all workers serve, removed when they are told to stop: for an orchestrator's probe.",
        ),
    ] = None,
    # ---- development ----
    reload: Annotated[
        bool,
        option(
            DEVELOPMENT,
            "--reload",
            variable="NYLON_RELOAD",
            metavar="",
            help="Replace the workers when a Python file changes; the old ones stay while the new code does not load.",
        ),
    ] = False,
    reload_dir: Annotated[
        list[Path] | None,
        option(
            DEVELOPMENT,
            "--reload-dir",
            variable="NYLON_RELOAD_DIR",
            metavar="DIR",
            help="What --reload watches; may be given again. Default: where the plugin is imported from.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            metavar="",
            help="Load the plugin, connect to the broker, print what would be served where, and exit: 0, or 1 with "
            "the reason.",
            rich_help_panel=DEVELOPMENT,
        ),
    ] = False,
) -> None:
    """Serve a plugin over NATS, from any number of processes.

    Ctrl-C or SIGTERM drains, a second one stops at once. SIGHUP replaces the workers one by one. What dies is replaced.
    """
    from nylon.recycling import Recycling

    if max_requests_jitter is not None and max_requests is None:
        raise typer.BadParameter("--max-requests-jitter goes with --max-requests")
    if reload_dir and not reload:
        raise typer.BadParameter("--reload-dir goes with --reload")
    given: dict[str, Any] = {
        "servers": [part.strip() for part in (nats or "").split(",") if part.strip()] or None,
        "group": group,
        "subject_prefix": subject_prefix,
        "name": name,
        "user": user,
        "password": password,
        "token": token,
        "credentials": text(creds),
        "nkey_seed": text(nkey),
        "tls_ca": text(tls_ca),
        "tls_cert": text(tls_cert),
        "tls_key": text(tls_key),
        "tls_hostname": tls_hostname,
        "concurrency": concurrency,
        "execution": execution.value if execution is not None else None,
        "threads": threads,
        "transport": transport.value if transport is not None else None,
        "drain_timeout": drain_timeout,
    }
    # Who the worker is: the workers see these variables too, and know when they count beside what the plugin says.
    given.update({name: None for parameter, name in ACCESS.items() if from_environment(context, parameter)})
    options = {option: value for option, value in given.items() if value is not None}
    directory = text(app_dir)
    entitle(plugin, group)
    configure_logging()
    if check:
        from nylon.worker_check import check_worker

        for line in check_worker(plugin, app_dir=directory, config=config, **options):
            print(line)
        return
    from nylon.workers import run_workers

    code = run_workers(
        plugin,
        workers=workers,
        app_dir=directory,
        config=config,
        recycling=Recycling(max_requests=max_requests, jitter=max_requests_jitter, max_rss=max_rss),
        reload_dirs=[str(path) for path in reload_dir or watched(plugin, app_dir)] if reload else (),
        ready_file=text(ready_file),
        **options,
    )
    raise typer.Exit(code)


def from_environment(context: typer.Context, parameter: str) -> bool:
    """Whether a parameter has its value from its variable."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "ENVIRONMENT"


def text(path: Path | None) -> str | None:
    """A path as the options have it."""
    return str(path) if path is not None else None


def watched(plugin: str, app_dir: Path | None) -> set[Path]:
    """The directories that a plugin is imported from."""
    directory = app_dir or Path()
    place = plugin.rpartition(":")[0] or plugin
    return {directory / Path(place).parent} if place.endswith(".py") else {directory}


def entitle(plugin: str, group: str | None) -> None:
    """What `ps` shows of the supervisor: without its arguments, which may be secrets."""
    from setproctitle import setproctitle

    setproctitle(f"nylon: supervisor of {group or 'workers'} ({plugin})")
