"""Worker processes for whoever isn't a terminal: the demo, the test fixtures, a script of one's own.

The supervisor wants a loop and, in the main thread, the signals. Here it gets a thread instead, which lives as
long as the workers do: on Linux they drain when the thread that started them is gone, so that even a killed
process leaves none behind.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from nylon.errors import WorkerError
from nylon.supervisor import Supervisor
from nylon.worker import WorkerSpec

__all__ = ["WorkerGroup"]

POLL_SECONDS = 0.01


class WorkerGroup:
    """`workers` processes that serve one plugin. A context manager, or `start` and `stop`.

    plugin
        `module:attribute` or `file.py:attribute`, imported from `app_dir` (default: the working directory).
    servers, group
        The brokers' URLs and the queue group.
    options
        Further fields of `WorkerOptions`, such as `concurrency`.
    """

    def __init__(
        self,
        plugin: str,
        servers: Sequence[str],
        group: str,
        *,
        workers: int = 1,
        app_dir: str | None = None,
        **options: Any,
    ) -> None:
        overrides = {"servers": list(servers), "group": group, **options}
        self._spec = WorkerSpec(plugin=plugin, app_dir=app_dir, overrides=overrides)
        self._workers = workers
        self._supervisor: Supervisor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the workers that live now, by worker number from 1."""
        return self._supervisor.pids if self._supervisor is not None else {}

    def start(self, timeout: float = 30.0) -> Self:
        """Start them, and return once each of them serves.

        Raises `WorkerError` if one cannot (its log, on standard error, says why) or `timeout` seconds are over.
        """
        if self._thread is not None:
            raise WorkerError(f"the workers of group {self._spec.overrides['group']!r} run already")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="nylon-workers")
        self._thread.start()
        deadline = time.monotonic() + timeout
        while self._supervisor is None or self._supervisor.serving < self._workers:
            if not self._thread.is_alive():
                self.stop()
                raise WorkerError(f"no worker could serve {self._spec.plugin}: its log says why")
            if time.monotonic() > deadline:
                self.stop()
                raise WorkerError(f"the workers of {self._spec.plugin} did not serve within {timeout:g} s")
            time.sleep(POLL_SECONDS)
        return self

    def stop(self) -> None:
        """Drain them, and return when they are gone; does nothing twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if thread.is_alive() and self._loop is not None and self._supervisor is not None:
            self._loop.call_soon_threadsafe(self._supervisor.stop)
        thread.join()
        self._supervisor = self._loop = None

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._supervisor = Supervisor(self._spec, self._workers)
        await self._supervisor.run()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
