"""Replaces workers that serve: all of them for a reload, one that has reached a limit.

One slot after the other: start the new process, wait until it serves, put it into the slot, drain the old one. So
capacity never falls, there is at most one process too many, and a plugin that no longer loads costs nothing but a
message: the old process stays in its slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from nylon.slot import STEADY_AFTER, Slot
from nylon.worker_process import WorkerProcess, describe_end

if TYPE_CHECKING:
    from nylon.supervisor import Supervisor

__all__ = ["Renewal"]

logger = logging.getLogger("nylon.supervisor")

PATIENCE = 300.0
"""Seconds that a new process gets to serve: a plugin may load much, and the broker may be away."""


class Renewal:
    """Belongs to one supervisor, in whose loop `run()` runs once."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.generation = 0
        """How often a reload was asked for: all processes should be that new."""
        self._supervisor = supervisor
        self._changed = asyncio.Event()
        self._refused = -1
        """The generation that could not serve."""
        self._since: float | None = None
        """When the reload that is under way was asked for."""
        self._due_at: dict[WorkerProcess, float] = {}
        """When (`time.monotonic`) processes that are worn may be replaced."""

    def reload(self) -> None:
        """Replace all. While that is under way, it begins anew."""
        self.generation += 1
        self._since = time.monotonic()
        self._changed.set()

    def wear_out(self, slot: Slot, worker: WorkerProcess) -> None:
        """Replace one that asked for it."""
        # One that wears out as soon as it is there would else be replaced without a pause.
        wait = slot.renewal.next() if worker.age < STEADY_AFTER else 0.0
        self._due_at[worker] = time.monotonic() + wait
        self._changed.set()

    def look(self) -> None:
        """A process has come up, or has ended."""
        self._changed.set()

    async def run(self) -> None:
        """Replace what is old or worn, until the supervisor stops."""
        supervisor = self._supervisor
        while not supervisor.stopping:
            self._changed.clear()
            slot = self._next_due()
            if slot is not None:
                await self._replace(slot)
                continue
            self._finish_reload()
            current = {slot.worker for slot in supervisor.slots.values()}
            self._due_at = {worker: due for worker, due in self._due_at.items() if worker in current}
            wait = min(self._due_at.values()) - time.monotonic() if self._due_at else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _next_due(self) -> Slot | None:
        """The slot with the oldest process: where reloads come faster than they can be done, all get their turn."""
        now = time.monotonic()

        def is_due(worker: WorkerProcess) -> bool:
            is_old = worker.generation < self.generation != self._refused
            return is_old or self._due_at.get(worker, now + 1) <= now

        held = [
            (slot.worker.started, slot)
            for slot in self._supervisor.slots.values()
            if slot.worker is not None and is_due(slot.worker)
        ]
        return min(held, key=lambda one: one[0])[1] if held else None

    async def _replace(self, slot: Slot) -> None:
        supervisor = self._supervisor
        asked = self.generation
        try:
            new = await supervisor.start(slot)
        except OSError as error:
            self._keep(slot, asked, f"cannot start a process ({error})")
            return
        why = await self._until_serving(new)
        if supervisor.stopping:
            return  # who stops tells them all
        if why is not None or slot.removed:
            supervisor.own(supervisor.retire(new))
            if why is not None:
                self._keep(slot, asked, why)
            return
        old, slot.worker = slot.worker, new
        slot.renewal.reset()
        if old is not None:
            logger.info("worker %d: pid %d takes over from pid %d", slot.number, new.pid, old.pid)
            await supervisor.retire(old)

    async def _until_serving(self, worker: WorkerProcess) -> str | None:
        """None once it serves; else why it does not."""
        deadline = time.monotonic() + PATIENCE
        while worker in self._supervisor.processes:
            if worker.serves.is_set():
                return None
            if worker.generation < self.generation:
                return "there is newer code"
            self._changed.clear()
            try:
                async with asyncio.timeout_at(
                    asyncio.get_running_loop().time() + deadline - time.monotonic()
                ):
                    await self._changed.wait()
            except TimeoutError:
                return f"the new process does not serve after {PATIENCE:g} s"
        return f"the new process {describe_end(await worker.ended())} before it served"

    def _keep(self, slot: Slot, asked: int, why: str) -> None:
        """The slot's process stays."""
        if asked < self.generation:
            return  # a further reload was asked for meanwhile: that one counts
        old = slot.worker
        if old is not None and old in self._due_at:
            self._due_at[old] = time.monotonic() + slot.renewal.next()
        if old is not None and old.generation < self.generation:
            self._refused = self.generation
            self._since = None
        logger.error(
            "worker %d: %s; what serves stays (%d workers)", slot.number, why, self._supervisor.serving
        )

    def _finish_reload(self) -> None:
        if self._since is None or self._supervisor.serving < self._supervisor.workers:
            return
        self._supervisor.announce(f"reloaded in {time.monotonic() - self._since:.1f} s: ")
        self._since = None
