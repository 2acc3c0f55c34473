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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nylon.errors import NylonError
from nylon.loading import load_file, load_module
from nylon.logs import log_to_stderr
from nylon.plugin import NylonPlugin

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
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields of `WorkerOptions`; the others are the plugin's own, or their defaults."""


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
    plugin = load(spec.plugin, spec.app_dir)
    own = plugin.options if isinstance(plugin, NatsPlugin) else None
    options = {f.name: getattr(own, f.name) for f in fields(WorkerOptions)} if own else {}
    return plugin, WorkerOptions(**{**options, **spec.overrides})


def serve(spec: WorkerSpec, status_fd: int) -> int:
    """Load and serve; the result is the exit code."""
    from nylon.nats import run_plugin

    def say(word: str) -> None:
        os.write(status_fd, word.encode() + b"\n")

    try:
        plugin, settings = resolve(spec)
        run_plugin(plugin, settings, on_loaded=lambda: say("loaded"), on_serving=lambda: say("serving"))
    except NylonError as error:
        logger.error("%s", error)
        return 1
    except Exception:
        logger.exception("the worker failed")
        return 1
    return 0


def main() -> int:
    """Read the orders and follow them."""
    orders = json.load(sys.stdin)
    log_to_stderr(f"%(asctime)s %(levelname)-7s worker {orders['number']} | %(message)s")
    end_with_parent(orders["supervisor"])
    return serve(WorkerSpec(**orders["spec"]), orders["status_fd"])


if __name__ == "__main__":
    sys.exit(main())
