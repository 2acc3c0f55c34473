"""Pauses that grow with each failure, with jitter, so that what fails together is not tried again together."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """`next()` gives the seconds to wait: `first`, then twice as long each time, at most `longest`, each ± 25 %."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._pause = first

    def next(self) -> float:
        """The pause after one more failure."""
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return pause * random.uniform(0.75, 1.25)

    def reset(self) -> None:
        """It works again: the next failure is the first one."""
        self._pause = self._first
