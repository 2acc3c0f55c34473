"""Worker processes: started, watched, replaced when they die or are worn or old, drained when asked.

The first worker starts alone, so that a plugin which cannot be loaded is reported once, not once per process. From
then on each worker number is a slot that holds one process. A slot without a process is filled here, after a pause that
grows; a process that serves is replaced by renewal.py, without a gap.

    supervisor                        worker process
       | -- JSON of Orders, stdin ------> |
       | <-- loaded, status pipe -------- |   the plugin is imported and initialised
       | <-- serving -------------------- |   connected and subscribed
       | <-- worn ----------------------- |   a limit is reached: replace me
       | -- SIGTERM: drain -------------> |   the drain time-out plus a grace, or a second signal of ours: SIGKILL
       | <-- leaving -------------------- |   also when somebody else told it to stop: the slot is filled at once
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from nylon.observer import describe_entries
from nylon.recycling import Recycling
from nylon.renewal import Renewal
from nylon.slot import SOUND_AFTER, Slot
from nylon.worker import Orders, WorkerSpec
from nylon.worker_process import Report, WorkerProcess, describe_end

__all__ = ["Supervisor"]

logger = logging.getLogger("nylon.supervisor")

KILL_GRACE = 5.0
"""Seconds past the drain time-out after which a worker that still lives is killed."""


class Supervisor:
    """Keeps a number of worker processes alive. One object runs once; all its methods belong to its loop."""

    def __init__(
        self,
        spec: WorkerSpec,
        workers: int,
        recycling: Recycling | None = None,
        environment: dict[str, str] | None = None,
        ready_file: Path | None = None,
    ) -> None:
        """`environment` is added to that of the processes; `ready_file` is there from the time when all of them serve
        until the supervisor is told to stop."""
        if workers < 1:
            raise ValueError(f"workers is {workers}: at least one process is needed")
        self.spec = spec
        self.workers = workers
        """How many there should be."""
        self.slots: dict[int, Slot] = {}
        self.processes: set[WorkerProcess] = set()
        """All that live, those that drain or are about to be put into a slot included."""
        self._recycling = recycling or Recycling()
        self._environment = environment
        self._ready_file = ready_file
        self._renewal = Renewal(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with what a task of ours raised: a defect, on which nothing should be built further."""
        self._over = asyncio.Event()
        self.stopping = False
        self._loaded = False
        self._ever_served = False
        self._announced = False
        self._killed = False
        self._failed = False

    # ---- what it is asked ----

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the workers that live now, by worker number."""
        return {number: slot.worker.pid for number, slot in self.slots.items() if slot.worker is not None}

    @property
    def serving(self) -> int:
        """How many of them are connected and subscribed."""
        return sum(slot.worker is not None and slot.worker.serves.is_set() for slot in self.slots.values())

    def log_state(self) -> None:
        """Say in the log which processes there are."""
        logger.info("supervisor %d: %d of %d workers serve", os.getpid(), self.serving, self.workers)
        for slot in self.slots.values():
            logger.info("%s", slot.describe(self._renewal.generation))
        for worker in self.processes - {slot.worker for slot in self.slots.values()}:
            logger.info("worker %d: pid %d comes or goes", worker.number, worker.pid)

    # ---- what it is told ----

    def stop(self) -> None:
        """Drain all workers; a second call kills them."""
        if self.stopping:
            self._killed = True
            for worker in self.processes:
                worker.kill()
            return
        self.stopping = True
        self._over.set()
        self._say_ready(False)
        logger.info("draining %d workers (at most %g s)", len(self.processes), self._drain_timeout)
        for worker in self.processes:
            worker.drain()

    def reload(self, why: str) -> None:
        """Replace all workers, one after the other, by new ones that load the plugin afresh.

        If the new code cannot be loaded the old workers stay. Called while a reload is under way, it begins anew.
        """
        if self.stopping:
            return
        logger.info("%s: replacing %d workers, one after the other", why, len(self.slots))
        for slot in self.slots.values():
            slot.revival.reset()
            slot.hurry.set()
        self._renewal.reload()

    def resize(self, workers: int) -> None:
        """Run so many workers from now on, at least one."""
        if workers < 1:
            logger.warning("one worker is the least: not one less")
            return
        logger.info("%d workers instead of %d", workers, self.workers)
        self.workers = workers
        if self._loaded:
            self._fit()

    # ---- its life ----

    async def run(self) -> int:
        """Run until stopped; the result is the exit code. No process of ours is left when this returns."""
        try:
            self._say_ready(False)
            self._add(1)
            self.own(self._renewal.run())
            over = asyncio.create_task(self._over.wait())
            try:
                waited: set[asyncio.Future[Any]] = {over, self._broken}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            finally:
                over.cancel()
            if self._broken.done():
                self._broken.result()
            await asyncio.gather(*(self.retire(worker) for worker in self.processes))
        finally:
            await self._end()
        if self._failed:
            logger.error("no worker could serve: see the error above")
            return 1
        return 1 if self._killed else 0

    async def _end(self) -> None:
        """Whatever happened: kill and wait for every process that is left, cancel what runs."""
        self.stopping = True
        self._say_ready(False)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in list(self.processes):
            worker.kill()
            await worker.ended()
        self.processes.clear()
        self.slots.clear()
        self._broken.cancel()

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that ends with the supervisor, and whose defects end the supervisor."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
            self._broken.set_exception(error)

    # ---- slots ----

    def _add(self, number: int) -> None:
        slot = self.slots[number] = Slot(number)
        self.own(self._fill(slot, 0.0))

    def _fit(self) -> None:
        """As many slots as workers are wanted."""
        for number in range(1, self.workers + 1):
            if number not in self.slots:
                self._add(number)
        for number in [number for number in self.slots if number > self.workers]:
            slot = self.slots.pop(number)
            slot.removed = True
            slot.hurry.set()
            worker, slot.worker = slot.worker, None
            if worker is not None:
                self.own(self.retire(worker))

    async def _fill(self, slot: Slot, pause: float) -> None:
        """Give a slot a process, after a pause that a reload cuts short."""
        while True:
            slot.hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await slot.hurry.wait()
            if self.stopping or slot.removed or slot.worker is not None:
                return
            try:
                worker = await self.start(slot)
            except OSError as error:
                pause = slot.revival.next()
                logger.error(
                    "worker %d: cannot start a process (%s); again in %.1f s", slot.number, error, pause
                )
                continue
            if slot.removed or slot.worker is not None:
                await self.retire(worker)
            elif worker in self.processes:
                slot.worker = worker
            else:  # it has ended already
                self._died(slot, worker, await worker.ended())
            return

    async def start(self, slot: Slot) -> WorkerProcess:
        """Start a process that may come into a slot. Raises `OSError` where the system has no room for it."""
        orders = Orders(
            spec=self.spec,
            number=slot.number,
            status_fd=-1,
            supervisor=os.getpid(),
            recycling=self._recycling.drawn(),
        )
        worker = await WorkerProcess.start(orders, self._renewal.generation, self._heard, self._environment)
        self.processes.add(worker)
        self.own(self._follow(slot, worker))
        if self.stopping:  # asked to stop while it was being started
            worker.drain()
        return worker

    async def _follow(self, slot: Slot, worker: WorkerProcess) -> None:
        """Wait for a process's end, and let its slot have another one."""
        code = await worker.ended()
        self.processes.discard(worker)
        self._renewal.look()
        if slot.worker is worker:
            slot.worker = None
            self._died(slot, worker, code)

    def _died(self, slot: Slot, worker: WorkerProcess, code: int) -> None:
        if self.stopping or slot.removed:
            return
        if code == 1 and not self._ever_served:
            slot.given_up = True
            if all(slot.given_up for slot in self.slots.values()):
                self._failed = True
                self._over.set()
            return
        if code == 0 or worker.served > SOUND_AFTER:
            slot.revival.reset()
        pause = slot.revival.next()
        slot.restarts += 1
        logger.warning(
            "worker %d (pid %d) %s after %.1f s; starting it again in %.1f s",
            slot.number,
            worker.pid,
            describe_end(code),
            worker.age,
            pause,
        )
        self.own(self._fill(slot, pause))

    async def retire(self, worker: WorkerProcess) -> None:
        """Drain a process; kill it if that takes longer than it may."""
        worker.drain()
        limit = self._drain_timeout + KILL_GRACE
        try:
            async with asyncio.timeout(limit):
                await worker.ended()
        except TimeoutError:
            logger.error(
                "worker %d (pid %d) did not drain within %g s: killing it", worker.number, worker.pid, limit
            )
            self._killed = self._killed or self.stopping
            worker.kill()
            await worker.ended()

    @property
    def _drain_timeout(self) -> float:
        """As the workers say that have loaded the plugin, whose own option it may be."""
        said = [worker.loaded["drain_timeout"] for worker in self.processes if worker.loaded is not None]
        return max(said, default=float(self.spec.overrides.get("drain_timeout", 30.0)))

    # ---- what workers report ----

    def _heard(self, worker: WorkerProcess, report: Report) -> None:
        slot = self.slots.get(worker.number)
        match report["step"]:
            case "loaded" if not self._loaded and not self.stopping:
                self._loaded = True
                self._fit()
            case "serving":
                self._on_serving()
            case "worn" if slot is not None and slot.worker is worker:
                logger.info(
                    "worker %d (pid %d) is to be replaced: %s", slot.number, worker.pid, report["why"]
                )
                self._renewal.wear_out(slot, worker)
            case "leaving" if slot is not None and slot.worker is worker and not self.stopping:
                # Somebody else told it to stop. It drains; its slot need not wait for that.
                logger.info("worker %d (pid %d) was told to leave: replacing it", slot.number, worker.pid)
                slot.worker = None
                slot.restarts += 1
                self.own(self.retire(worker))
                self.own(self._fill(slot, 0.0))

    def _on_serving(self) -> None:
        self._renewal.look()
        if not self._ever_served:
            self._ever_served = True
            for slot in self.slots.values():
                if slot.given_up:  # so it can be done after all
                    slot.given_up = False
                    self.own(self._fill(slot, slot.revival.next()))
        if not self._announced and self.serving == self.workers:
            self._announced = True
            self.announce()
            self._say_ready(not self.stopping)

    def _say_ready(self, ready: bool) -> None:
        if self._ready_file is None:
            return
        try:
            if ready:
                self._ready_file.touch()
            else:
                self._ready_file.unlink(missing_ok=True)
        except OSError as error:
            logger.error("ready file %s: %s", self._ready_file, error.strerror)

    def announce(self, what: str = "") -> None:
        """Say once for all of them what is served where."""
        worker = next(slot.worker for slot in self.slots.values() if slot.worker is not None)
        loaded = worker.loaded
        assert loaded is not None, "a worker that serves has loaded"
        logger.info(
            "%sserving group %s via %s: %s (%s, %d worker%s, concurrency %d each)",
            what,
            loaded["group"],
            loaded["servers"],
            describe_entries(loaded["entries"]),
            self.spec.plugin,
            self.workers,
            "" if self.workers == 1 else "s",
            loaded["concurrency"],
        )
