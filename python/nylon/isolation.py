"""The process of one plugin with ``isolation: process``. A gateway starts it, with a socket for its standard input.

It loads the plugin as the gateway would, and says how that went; then the Rust half serves, until the gateway tells it
to end or is gone. The process ends with its gateway only: signals that a service manager or a terminal sends to
everybody are the gateway's to understand, which still has requests to finish.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

from nylon import _core
from nylon.errors import NylonError
from nylon.loading import load_file, load_module
from nylon.logs import log_to_stderr
from nylon.plugin import NylonPlugin

__all__ = ["main"]


def main() -> int:
    """Do what the gateway says; the result is the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler and not SIG_IGN, which programs that the plugin starts would inherit.
        signal.signal(number, _leave_to_the_gateway)
    process = _core.PluginProcess.take()
    recipe = process.recipe
    name, number = recipe["plugin"], recipe["number"]
    _entitle(name, number)
    sys.path[:] = recipe["path"]
    _core.start_logging("warn")
    log_to_stderr(f"%(asctime)s %(levelname)-7s {name} {number} [{os.getpid()}] | %(message)s")
    try:
        if "native" in recipe:
            process.serve_library()
        else:
            process.serve(_load(recipe["python"]))
    except Exception as error:
        process.refuse(str(error) if isinstance(error, NylonError) else f"{type(error).__name__}: {error}")
        return 1
    return 0


def _leave_to_the_gateway(number: int, frame: FrameType | None) -> None:
    pass


def _entitle(plugin: str, number: int) -> None:
    from setproctitle import setproctitle

    setproctitle(f"nylon: plugin {plugin} {number}")


def _load(source: dict[str, Any]) -> NylonPlugin:
    """The plugin; a file's text is what it was when the gateway loaded it."""
    if "module" in source:
        return load_module(source["module"], source["attribute"])
    text = source["text"]
    return load_file(source["file"], source["attribute"], None if text is None else text.encode("latin-1"))
