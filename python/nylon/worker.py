"""One worker process: `python -m nylon.worker`, started by the supervisor with its orders on standard input.

It loads the plugin, serves it until SIGTERM, and says on the status pipe how far it came. It does not outlive
its supervisor. Exit codes: 0 drained, 1 could not serve (the reason is in the log).
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nylon.errors import ConfigError, NylonError
from nylon.loading import load_file, load_module
from nylon.logs import log_to_stderr
from nylon.plugin import NylonPlugin
from nylon.recycling import Recycling

if TYPE_CHECKING:
    from nylon.broker import WorkerOptions

logger = logging.getLogger("nylon.worker")

PR_SET_PDEATHSIG = 1
"""Linux: which signal a process gets when the thread that started it dies."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker process has to know: which plugin, and the options that were given."""

    plugin: str
    """`module:attribute` or `file.py:attribute`."""
    app_dir: str | None = None
    """Put on the import path; the working directory by default."""
    config: str | None = None
    """What the plugin's `initialize` gets: JSON, or the name of a file with JSON, read by each process as it starts."""
    overrides: dict[str, Any] = field(default_factory=dict, repr=False)
    """Fields of `WorkerOptions`, passwords among them; the others are the plugin's own, or their defaults."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What the supervisor writes to a new process."""

    spec: WorkerSpec
    number: int
    """The worker's number in the log and in its process title."""
    status_fd: int
    """Where it says how far it came."""
    supervisor: int
    """Its supervisor's process id."""
    recycling: Recycling

    @classmethod
    def decode(cls, document: dict[str, Any]) -> Orders:
        """From JSON's dictionaries."""
        spec, recycling = WorkerSpec(**document.pop("spec")), Recycling(**document.pop("recycling"))
        return cls(spec=spec, recycling=recycling, **document)


def end_with_parent(parent: int) -> None:
    """Make sure that this process drains when `parent` is gone, however it went."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGTERM)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def load(plugin: str, app_dir: str | None) -> NylonPlugin:
    """The plugin that `module:attribute` or `file.py:attribute` names; the attribute is `plugin` by default.

    Raises `PluginError` naming file and line where it cannot be loaded.
    """
    place, separator, attribute = plugin.rpartition(":")
    if not separator:
        place, attribute = plugin, "plugin"
    if app_dir is not None:
        sys.path.insert(0, str(Path(app_dir).resolve()))
    if place.endswith(".py"):
        return load_file(str(Path(app_dir or ".") / place), attribute)
    return load_module(place, attribute)


def read_config(given: str) -> Any:
    """The plugin's config: `given` if it is JSON, else what the file of that name holds.

    Raises `ConfigError` with the place of what is wrong.
    """
    text, place = given, "config"
    if not given.lstrip().startswith(("{", "[", '"')):
        place = given
        try:
            text = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"{given}: cannot read the plugin's config: {why}; give a file or JSON text"
            ) from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{place}:{error.lineno}:{error.colno}: the plugin's config is not JSON: {error.msg}"
        ) from None


def resolve(spec: WorkerSpec) -> tuple[NylonPlugin, WorkerOptions]:
    """The plugin, loaded, and how it is to be served.

    Raises `PluginError` and `ConfigError` with the place or the option that is wrong.
    """
    from nylon.broker import WorkerOptions
    from nylon.nats import NatsPlugin

    # A script whose `NatsPlugin()` names neither finds here what was given on the command line.
    for variable, field_name in (("NATS_SERVERS", "servers"), ("NATS_GROUP", "group")):
        if given := spec.overrides.get(field_name):
            os.environ[variable] = given if isinstance(given, str) else ",".join(given)
    overrides = dict(spec.overrides)
    if spec.config is not None:
        overrides["config"] = read_config(spec.config)
    plugin = load(spec.plugin, spec.app_dir)
    if isinstance(plugin, NatsPlugin):
        return plugin, plugin.options.changed(overrides)
    return plugin, WorkerOptions(**overrides)


def serve(orders: Orders) -> int:
    """Load and serve; the result is the exit code."""
    from nylon.nats import run_plugin
    from nylon.reporting import Reporter

    try:
        plugin, settings = resolve(orders.spec)
        entitle(f"worker {orders.number} of", settings.group, orders.spec.plugin)
        run_plugin(plugin, settings, Reporter(orders.status_fd, orders.recycling), second_signal=False)
    except NylonError as error:
        logger.error("%s", error)
        return 1
    except Exception:
        logger.exception("the worker failed")
        return 1
    return 0


def entitle(role: str, group: str, plugin: str) -> None:
    """What `ps` and `top` show of this process: which group and plugin, and none of its arguments."""
    from setproctitle import setproctitle

    setproctitle(f"nylon: {role} {group} ({plugin})")


def main() -> int:
    """Read the orders and follow them."""
    orders = Orders.decode(json.load(sys.stdin))
    os.set_inheritable(orders.status_fd, False)  # not for what the plugin may start
    log_to_stderr(f"%(asctime)s %(levelname)-7s worker {orders.number} [{os.getpid()}] | %(message)s")
    end_with_parent(orders.supervisor)
    return serve(orders)


if __name__ == "__main__":
    sys.exit(main())
