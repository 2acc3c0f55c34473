"""Whether the machine itself stood still while something was measured.

A busy machine can keep a process from running for longer than Nylon's shortest times (a call that nobody takes within
250 ms is sent again). What follows from that is right, and is not what a test on a quiet machine expects.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

STEP = 0.005
STALL = 0.1
"""Seconds between two steps from which on other processes may have waited for the times that matter."""


class StallWatch:
    """Watches the clock in a thread while its block runs."""

    def __init__(self) -> None:
        self.longest = 0.0
        """The longest time in seconds between two steps."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stall watch")

    @property
    def stalled(self) -> bool:
        """Whether it stood still."""
        return self.longest > STALL

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(STEP):
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
