"""One plugin's life in the gateway's process: initialize, the event loop of its ``async def`` handlers, shutdown.

Each plugin has a loop of its own. What ``initialize`` opens on it (an aiohttp session, a database pool) belongs
to the loop that runs the handlers, a handler that blocks stops its own plugin only, and when the plugin ends,
the loop ends with everything that still ran on it.
"""

import asyncio
import functools
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nylon import _core
from nylon.loading import plugin_error, unload
from nylon.plugin import NylonPlugin
from nylon.stepper import Stepper

__all__ = ["Lifetime", "new_event_loop"]

_log = logging.getLogger("nylon.plugin")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An uvloop loop where that is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Lifetime:
    """Runs what belongs to one plugin in one gateway. Made and ended by the Rust host."""

    def __init__(self, plugin: NylonPlugin, name: str) -> None:
        self._plugin = plugin
        self._name = name
        self._initialized = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._queue: _core.LoopQueue | None = None
        self._stopping = False

    def initialize(self, config: Any) -> None:
        """Runs the plugin's ``initialize`` functions in their order.

        Raises:
            PluginError: one of them raised; the text names file and line.
        """
        for function in self._plugin._initialize:
            try:
                self._call(functools.partial(function, config), timeout=None)
            except Exception as error:
                raise plugin_error(f"initialize of plugin `{self._name}`", error, function) from None
        self._initialized = True

    def serve(self, queue: _core.LoopQueue) -> None:
        """Starts handlers that come through ``queue`` on the plugin's loop."""
        loop = self._started_loop()
        stepper = Stepper(loop, f"nylon-{self._name}")
        start, take = stepper.start, queue.take

        def drain() -> None:
            for handler, ctx in take():
                start(handler, ctx)

        self._queue = queue
        loop.call_soon_threadsafe(loop.add_reader, queue.fileno(), drain)

    def abandon(self) -> None:
        """Ends a plugin that did not come up."""
        self.shutdown(5.0)

    def shutdown(self, grace: float) -> None:
        """Lets running handlers finish for at most ``grace`` seconds, runs ``shutdown``, ends the loop."""
        until = time.monotonic() + grace
        while self._queue is not None and self._queue.running() and time.monotonic() < until:
            time.sleep(0.005)
        try:
            if self._initialized:
                self._run_shutdown(max(until - time.monotonic(), 1.0))
        finally:
            self._stop_loop()
            unload(self._plugin)

    def _run_shutdown(self, timeout: float) -> None:
        for function in reversed(self._plugin._shutdown):
            try:
                self._call(function, timeout)
            except TimeoutError:
                _log.error("shutdown of plugin %s did not end within %.1f s", self._name, timeout)
            except Exception:
                _log.exception("shutdown of plugin %s raised", self._name)

    def _call(self, function: Callable[[], Awaitable[None] | None], timeout: float | None) -> None:
        """Calls a ``def`` here and an ``async def`` on the loop."""
        result = function()
        if not inspect.isawaitable(result):
            return

        async def wait() -> None:
            await result

        asyncio.run_coroutine_threadsafe(wait(), self._started_loop()).result(timeout)

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = new_event_loop()
            self._thread = threading.Thread(
                target=self._run_loop, args=(self._loop,), name=f"nylon-{self._name}-loop", daemon=True
            )
            self._thread.start()
        return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._stopping:
            try:
                loop.run_forever()
            except BaseException:  # a task's SystemExit ends that task, not the plugin
                _log.exception("a task of plugin %s raised out of its event loop", self._name)
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=1.0))
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException:
            _log.exception("a task of plugin %s raised while its event loop ended", self._name)
        finally:
            if self._queue is not None:
                loop.remove_reader(self._queue.fileno())
                self._queue.close()
            asyncio.set_event_loop(None)
            loop.close()

    def _stop_loop(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._stopping = True
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5.0)
        if thread.is_alive():
            _log.error("the event loop of plugin %s is blocked by a handler: left alone", self._name)
        self._loop = self._thread = None
