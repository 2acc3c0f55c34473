"""A worker in a thread of the test's own process.

It is the whole worker (a connection of its own, real messages through a real broker) without a second
interpreter, so a test may share objects with its handlers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from nylon.broker import WorkerOptions
from nylon.errors import WorkerError
from nylon.nats import NatsPlugin, loop_factory
from nylon.observer import Observer
from nylon.plugin import NylonPlugin
from nylon.serving import Serving

__all__ = ["Started", "WorkerThread", "worker_options"]


def worker_options(
    plugin: NylonPlugin, given: dict[str, Any], default_servers: Callable[[], list[str]]
) -> WorkerOptions:
    """How to serve `plugin`: what is `given` wins over a `NatsPlugin`'s own options."""
    if isinstance(plugin, NatsPlugin):
        return plugin.options.changed(given)
    if not given.get("servers"):
        given = {**given, "servers": default_servers()}
    return WorkerOptions(**given)


class Started(Observer):
    """Calls a function once the worker serves."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self._tell = tell

    def serving(self, serving: Serving) -> None:
        """In the log as ever, and told."""
        super().serving(serving)
        self._tell()


class WorkerThread:
    """One worker that serves `plugin` in a thread. A context manager, or `start` and `stop`."""

    def __init__(self, plugin: NylonPlugin, options: WorkerOptions) -> None:
        self._plugin = plugin
        self._options = options
        self._serving: Serving | None = None
        self._thread: threading.Thread | None = None
        self._decided = threading.Event()
        self._error: BaseException | None = None

    def start(self, timeout: float = 10.0) -> Self:
        """Start it, and return once it serves.

        Raises what kept it from serving, or `WorkerError` after `timeout` seconds.
        """
        if self._thread is not None:
            raise WorkerError("this worker was started already")
        self._thread = threading.Thread(target=self._run, name=f"nylon-worker-{self._options.group}")
        self._thread.start()
        in_time = self._decided.wait(timeout)
        if self._error is not None or not in_time:
            self.stop()
            raise WorkerError(f"the worker of group {self._options.group} did not serve within {timeout:g} s")
        return self

    def stop(self) -> None:
        """Drain it, and return when it has ended; does nothing twice.

        Raises what ended it, if that was not a stop.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._serving is not None:
            self._serving.stop()
        thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # for the test's own thread: see stop()
            self._error = error
        finally:
            self._decided.set()

    async def _serve(self) -> None:
        self._serving = Serving(self._plugin, self._options, Started(self._decided.set))
        await self._serving.run()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
