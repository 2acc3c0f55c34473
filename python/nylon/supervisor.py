"""Worker processes: started, watched, replaced when they die, drained when asked.

Each worker is a fresh interpreter (`python -m nylon.worker`), never a fork: the loop, the threads and the broker
connection of one process cannot live on in another. The first worker starts alone, so that a plugin which
cannot be loaded is reported once, not once per process. What a worker has to know, credentials included,
goes through its standard input, where no other user can read it.

    supervisor                        worker process
       | -- JSON of WorkerSpec, stdin --> |
       | <-- "loaded", status pipe ------ |   the plugin is imported and initialised
       | <-- "serving" ------------------ |   connected and subscribed
       | -- SIGTERM: drain -------------> |   a second one, or the drain time-out plus a grace: SIGKILL
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from nylon.worker import WorkerSpec

logger = logging.getLogger("nylon.supervisor")

FIRST_PAUSE = 0.1
"""Seconds before a dead worker is replaced; doubled with each death that follows soon."""
LONGEST_PAUSE = 5.0
"""Seconds at most between two starts of one worker."""
STEADY_AFTER = 10.0
"""Seconds of life after which a death counts as the first one again."""
KILL_GRACE = 5.0
"""Seconds past the drain time-out after which a worker that still lives is killed."""


def run_workers(
    plugin: str,
    servers: Sequence[str] | None = None,
    group: str | None = None,
    *,
    workers: int = 1,
    app_dir: str | None = None,
    **options: Any,
) -> int:
    """Run `workers` processes that serve `plugin` until SIGTERM or SIGINT.

    `plugin` is `module:attribute` or `file.py:attribute`; `app_dir` is put on their import path. `servers`, `group` and
    `options` are fields of `WorkerOptions`; what is not given is taken from the plugin, where it is a
    `NatsPlugin`. The first signal drains (at most `drain_timeout` seconds), a second one kills.

    Returns the exit code: 0 after a drain, 1 where no worker could serve or one had to be killed. Raises `ConfigError`
    for an option that cannot work.
    """
    given = {"servers": servers and list(servers), "group": group, **options}
    overrides = {name: value for name, value in given.items() if value is not None}
    spec = WorkerSpec(plugin=plugin, app_dir=app_dir, overrides=overrides)
    return asyncio.run(Supervisor(spec, workers).run())


class _Process:
    """One worker process and what it has said of itself."""

    def __init__(
        self, process: asyncio.subprocess.Process, status_fd: int, said: Callable[[bytes], None]
    ) -> None:
        self.process = process
        self.started = time.monotonic()
        self._status_fd = status_fd
        self._said = said
        self._line = b""
        self.serving = False
        asyncio.get_running_loop().add_reader(status_fd, self._read)

    def _read(self) -> None:
        data = os.read(self._status_fd, 256)
        if not data:
            self.close()
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self.serving = self.serving or line == b"serving"
            self._said(line)

    def close(self) -> None:
        """Let go of the status pipe."""
        if self._status_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._status_fd)
            os.close(self._status_fd)
            self._status_fd = -1


class Supervisor:
    """Keeps a number of worker processes alive. One object runs once."""

    def __init__(self, spec: WorkerSpec, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}: at least one process is needed")
        self.spec = spec
        self.workers = workers
        self._drain_timeout = float(spec.overrides.get("drain_timeout", 30.0))
        self._processes: dict[int, _Process] = {}
        self._stopping = asyncio.Event()
        self._killed = False
        self._loaded = asyncio.Event()
        self._ever_served = False

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the workers that live now, by worker number."""
        return {number: worker.process.pid for number, worker in self._processes.items()}

    @property
    def serving(self) -> int:
        """How many of them are connected and subscribed."""
        return sum(worker.serving for worker in self._processes.values())

    def stop(self) -> None:
        """Drain all workers; a second call kills them."""
        if self._stopping.is_set():
            self._killed = True
            self._signal(signal.SIGKILL)
            return
        self._stopping.set()
        logger.info("draining %d workers (at most %g s)", len(self._processes), self._drain_timeout)
        self._signal(signal.SIGTERM)

    async def run(self) -> int:
        """Run until stopped; the result is the exit code. No process of ours is left when this returns."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT):
                # Outside the main thread there are no signals to take: the owner calls stop().
                with contextlib.suppress(ValueError, RuntimeError):
                    loop.add_signal_handler(number, self.stop)
                    stack.callback(loop.remove_signal_handler, number)
            try:
                return await self._supervise()
            finally:
                await self._reap()

    async def _supervise(self) -> int:
        first = asyncio.create_task(self._keep_alive(1))
        keepers = [first]
        loaded = asyncio.create_task(self._loaded.wait())
        await asyncio.wait({first, loaded}, return_when=asyncio.FIRST_COMPLETED)
        loaded.cancel()
        if self._loaded.is_set() and not self._stopping.is_set():
            keepers += [asyncio.create_task(self._keep_alive(n)) for n in range(2, self.workers + 1)]
        try:
            await asyncio.gather(*keepers)
        finally:
            for keeper in keepers:
                keeper.cancel()
        if not self._stopping.is_set():
            logger.error("no worker could serve: see the error above")
            return 1
        return 1 if self._killed else 0

    async def _keep_alive(self, number: int) -> None:
        """Start worker `number` again and again until the end.

        Returns early if it gives up by itself before any worker ever served: the next one would do the same.
        """
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            worker = await self._start(number)
            code = await self._watch(number, worker)
            if self._stopping.is_set() or (code == 1 and not self._ever_served):
                return
            lived = time.monotonic() - worker.started
            if code == 0 or lived > STEADY_AFTER:
                pause = FIRST_PAUSE
            wait = pause * random.uniform(0.75, 1.25)
            logger.warning(
                "worker %d (pid %d) %s after %.1f s; starting it again in %.1f s",
                number,
                worker.process.pid,
                f"was killed by signal {-code}" if code < 0 else f"exited with code {code}",
                lived,
                wait,
            )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _start(self, number: int) -> _Process:
        status, child_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "nylon.worker",
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(child_end,),
                # Its own session: a terminal's Ctrl-C reaches only the supervisor, which passes on one signal.
                start_new_session=True,
            )
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(child_end)
        worker = _Process(process, status, self._on_status)
        self._processes[number] = worker
        orders = {"number": number, "status_fd": child_end, "supervisor": os.getpid()}
        document = json.dumps({"spec": dataclasses.asdict(self.spec), **orders})
        assert process.stdin is not None, "asked for with PIPE"
        with contextlib.suppress(ConnectionError):  # it died already: the watcher reports it
            process.stdin.write(document.encode())
            await process.stdin.drain()
        process.stdin.close()
        if self._stopping.is_set():  # asked to stop while it was being started
            self._kill_quietly(worker, signal.SIGTERM)
        return worker

    def _on_status(self, line: bytes) -> None:
        if line == b"loaded":
            self._loaded.set()
        elif line == b"serving":
            self._ever_served = True

    async def _watch(self, number: int, worker: _Process) -> int:
        """Wait for its end; once stopping, no longer than the drain may take."""
        ended = asyncio.create_task(worker.process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                limit = self._drain_timeout + KILL_GRACE
                done, _ = await asyncio.wait({ended}, timeout=limit)
                if not done:
                    logger.error("worker %d did not drain within %g s: killing it", number, limit)
                    self._killed = True
                    self._kill_quietly(worker, signal.SIGKILL)
            return await ended
        finally:
            for task in (ended, stopping):
                task.cancel()
            if worker.process.returncode is not None:
                worker.close()
                self._processes.pop(number, None)

    async def _reap(self) -> None:
        """Whatever went wrong: kill and wait for every process that is left."""
        for worker in list(self._processes.values()):
            self._kill_quietly(worker, signal.SIGKILL)
            await worker.process.wait()
            worker.close()
        self._processes.clear()

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._processes.values():
            self._kill_quietly(worker, number)

    @staticmethod
    def _kill_quietly(worker: _Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(number)
