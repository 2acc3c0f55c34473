"""What a worker process tells its supervisor: one line of JSON for each step, over a pipe.

{"step": "loaded", "group": …, "servers": …, "concurrency": …, "drain_timeout": …, "entries": [[name, phases], …]}
{"step": "serving"}
{"step": "worn", "why": …}          it asks to be replaced, and serves on
{"step": "leaving"}                 it takes no new sessions
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from typing import Any

from nylon.errors import ConfigError
from nylon.nats import ProcessObserver
from nylon.recycling import Recycling, resident_megabytes
from nylon.serving import Serving

__all__ = ["Reporter"]

logger = logging.getLogger("nylon.worker")

LOOK_EVERY = 0.2
"""Seconds between looks at the limits."""


class Reporter(ProcessObserver):
    """Reports to the supervisor, and looks whether the process has reached one of its limits."""

    def __init__(self, status_fd: int, recycling: Recycling) -> None:
        self._status_fd = status_fd
        self._recycling = recycling
        self._look_at = 0.0
        self._worn = False

    def loaded(self, serving: Serving) -> None:
        """Raises `ConfigError` where the limit of memory is reached before the first call: it would never serve."""
        super().loaded(serving)
        limit = self._recycling.max_rss
        if limit is not None and (held := resident_megabytes()) >= limit:
            raise ConfigError(
                f"max_rss is {limit:g} MB, and the plugin holds {held:.0f} MB once it is loaded"
            )
        options = serving.options
        self._say(
            "loaded",
            group=options.group,
            servers=serving.servers,
            concurrency=options.concurrency,
            drain_timeout=options.drain_timeout,
            entries=serving.entries,
        )

    def serving(self, serving: Serving) -> None:
        """In the log in short: the supervisor says for all workers what is served where."""
        logger.info("serving as worker %s", serving.worker)
        self._say("serving")

    def tick(self, serving: Serving) -> None:
        """Asks once to be replaced, when it is time."""
        now = time.monotonic()
        if self._worn or now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        why = self._recycling.reached(serving.calls)
        if why is not None:
            self._worn = True
            self._say("worn", why=why)

    def leaving(self, serving: Serving) -> None:
        """The supervisor may start another one at once."""
        self._say("leaving")

    def _say(self, step: str, **more: Any) -> None:
        # Without a supervisor nobody listens, and SIGTERM is on its way.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._status_fd, json.dumps({"step": step, **more}).encode() + b"\n")
