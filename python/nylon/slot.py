"""A worker's number under its supervisor, and the process that has it now."""

from __future__ import annotations

import asyncio

from nylon.backoff import Backoff
from nylon.worker_process import WorkerProcess

__all__ = ["SOUND_AFTER", "STEADY_AFTER", "Slot"]

FIRST_PAUSE = 0.1
"""Seconds before a dead worker is replaced; doubled with each death that follows soon."""
LONGEST_PAUSE = 5.0
"""Seconds at most between two starts of one worker."""
SLOWEST_RENEWAL = 60.0
"""Seconds at most between two attempts to replace a worker that serves, and asked for it."""
STEADY_AFTER = 10.0
"""Seconds of life before which a worker that is worn out already is replaced after a pause only."""
SOUND_AFTER = 1.0
"""Seconds of service after which a death is not the worker's own fault, so that it counts as the first one again.

Workers that are killed one after the other must not end up waiting for each other's pauses; one that dies of its
first calls does not come this far."""


class Slot:
    """What the supervisor knows of one worker number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.restarts = 0
        """How often its process died, or was told to leave by somebody else."""
        self.given_up = False
        """It could not serve, and nobody ever has: the next attempt would come to the same."""
        self.removed = False
        self.hurry = asyncio.Event()
        """Set to cut the pause before the next start short."""
        self.revival = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self.renewal = Backoff(FIRST_PAUSE, SLOWEST_RENEWAL)

    def describe(self, wanted: int) -> str:
        """One line for the log; `wanted` is the generation that it should belong to."""
        worker = self.worker
        if worker is None:
            return f"worker {self.number}: no process, {self.restarts} restarts"
        state = "serves" if worker.serves.is_set() else "starts"
        old = "" if worker.generation == wanted else ", with the code of before the last reload"
        return f"worker {self.number}: pid {worker.pid} {state}, {worker.age:.0f} s old, {self.restarts} restarts{old}"
