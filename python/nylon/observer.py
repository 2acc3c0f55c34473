"""Who is told how far a worker has come: a script's log, the supervisor at the other end of a pipe, a test.

One object instead of a callback for each step, so that `Serving` need not know which of them there are.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nylon.serving import Serving

__all__ = ["Observer", "describe_entries"]

logger = logging.getLogger("nylon.worker")


class Observer:
    """Says in the log what is served. Subclasses say more, or something else; all runs on the worker's loop."""

    def loaded(self, serving: Serving) -> None:
        """The plugin is imported and initialised; the broker comes next."""

    def serving(self, serving: Serving) -> None:
        """Connected, subscribed and announced: calls come."""
        logger.info("%s", serving.banner())

    def tick(self, serving: Serving) -> None:
        """Several times a second, from `loaded` on."""

    def leaving(self, serving: Serving) -> None:
        """Asked to stop: from now on it takes no new sessions."""


def describe_entries(entries: list[tuple[str, list[str]]]) -> str:
    """`auth: request_filter, logging; stamp: request_filter`."""
    return "; ".join(f"{name}: {', '.join(phases)}" for name, phases in entries)
