"""What Nylon's Python side writes to :mod:`logging`: handlers' own records, and what handlers raised.

Loggers are named ``nylon.plugin.<plugin>``. Records carry ``plugin``, ``entry`` and ``request_id``, so that a
formatter can show them; the request id is the one that the client sees in an error.
"""

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

__all__ = ["ContextLogger", "context_logger", "log_failure", "log_to_stderr"]


class ContextLogger(logging.LoggerAdapter[logging.Logger]):
    """The logger behind ``ctx.logger``: names the request in each record and at the head of each message."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Adds the request to a record; ``extra`` given by the caller stays."""
        facts = dict(self.extra or {})
        kwargs["extra"] = {**facts, **(kwargs.get("extra") or {})}
        return f"[{facts.get('entry')} {facts.get('request_id')}] {msg}", kwargs


def context_logger(plugin: str, entry: str, request_id: str) -> ContextLogger:
    """The logger of one call."""
    facts = {"plugin": plugin, "entry": entry, "request_id": request_id}
    return ContextLogger(logging.getLogger(f"nylon.plugin.{plugin}"), facts)


def log_to_stderr(layout: str, default: str = "INFO") -> None:
    """Sends records to standard error, unless the program has set up :mod:`logging` itself.

    NYLON_LOG sets the level, ``default`` where it is not set or no level of Python's.
    """
    level = os.environ.get("NYLON_LOG", default).upper()
    known = level if level in logging.getLevelNamesMapping() else default
    logging.basicConfig(level=known, format=layout, stream=sys.stderr)


def log_failure(
    plugin: str, entry: str, phase: str, request_id: str, error: BaseException, in_time: bool
) -> None:
    """Logs what a handler raised, with its traceback.

    What comes after the call was given up (a cancellation, a closed context) is for debugging only.
    """
    logger = context_logger(plugin, entry, request_id)
    if in_time:
        logger.error("%s handler raised %s", phase, type(error).__name__, exc_info=error)
    else:
        logger.debug("%s handler ended after its call was given up", phase, exc_info=error)


def log_stuck(plugin: str, entry: str, phase: str, request_id: str, ident: int) -> None:
    """Logs where a handler stands that does not come back. ``ident`` is its thread's."""
    frame = sys._current_frames().get(ident)
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread is gone)"
    context_logger(plugin, entry, request_id).warning("%s handler is stuck here:\n%s", phase, stack)
