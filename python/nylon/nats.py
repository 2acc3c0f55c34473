"""`NatsPlugin`: a plugin whose handlers run in this process, for gateways anywhere behind the same broker.

The registration API is `NylonPlugin`'s; only the constructor differs. What serving means is in serving.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from nylon.broker import WorkerOptions, split_servers
from nylon.logs import log_to_stderr
from nylon.observer import Observer
from nylon.plugin import NylonPlugin
from nylon.serving import Serving, serving_of

__all__ = ["NatsPlugin", "ProcessObserver", "run_plugin", "serve_plugin"]

logger = logging.getLogger("nylon.worker")

COLLECT_AFTER = 10_000
"""Objects made and not freed that start a collection, in a process of the worker's own."""


class NatsPlugin(NylonPlugin):
    """A plugin served over NATS: same handlers, same `ctx`, in a process of its own.

        plugin = NatsPlugin("nats://localhost:4222", "auth_workers")

    `servers` is a URL, several separated by commas, or a list; default NATS_SERVERS, then
    nats://127.0.0.1:4222. `group` is the queue group (default NATS_GROUP): the calls of a gateway's plugin with this
    `group` are spread over all workers in it. Further keywords are the fields of `WorkerOptions`.

    Use `run()` in a script, `await serve()` in a running loop; `close()`, also as a context manager's end, drains
    and stops. Raises `ConfigError` for an option that cannot work.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        group: str | None = None,
        *,
        concurrency: int = 64,
        execution: Literal["thread", "inline"] = "thread",
        threads: int = 4,
        subject_prefix: str = "nylon",
        drain_timeout: float = 30.0,
        **connection: Any,
    ) -> None:
        super().__init__()
        self.options = WorkerOptions(
            servers=split_servers(servers) if isinstance(servers, str) else tuple(servers or ()),
            group=group or "",
            concurrency=concurrency,
            execution=execution,
            threads=threads,
            subject_prefix=subject_prefix,
            drain_timeout=drain_timeout,
            **connection,
        )

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; returns when the worker has drained. A second signal stops at once.

        Owns the event loop (uvloop where it is installed) and, in the main thread, the signals. Raises
        `WorkerError` if the worker cannot serve: refused credentials, a connection that the broker ended. Logs to
        standard error (NYLON_LOG sets the level, default INFO) where the program has not set up logging itself.
        """
        log_to_stderr("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        run_plugin(self, self.options)

    async def serve(self) -> None:
        """Serve in the running loop until `close()` is called or the task is cancelled. Raises as `run()` does."""
        await serve_plugin(self, self.options)

    def close(self) -> None:
        """Drain and stop serving, from any thread. Waits for the end, except on the serving loop's own thread."""
        serving = serving_of(self)
        if serving is not None:
            serving.stop()
            serving.wait_closed()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ProcessObserver(Observer):
    """The observer of a worker that has its process for itself."""

    def loaded(self, serving: Serving) -> None:
        """Everything is imported that stays for the process's life."""
        calm_collector()


def run_plugin(
    plugin: NylonPlugin,
    options: WorkerOptions,
    observer: Observer | None = None,
    *,
    second_signal: bool = True,
) -> None:
    """Serve any plugin in a loop of its own until a signal; see `NatsPlugin.run`.

    Without `second_signal` only the first one counts: a supervisor kills, and an init system that signals the
    supervisor and its workers alike must not cut a drain short.
    """

    async def main() -> Serving:
        serving = Serving(plugin, options, observer or ProcessObserver())
        with stopped_by_signals(serving, second_signal):
            await serving.run()
        return serving

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        serving = runner.run(main())
    if serving.stuck:
        logger.error("a handler did not end within the drain time and holds a thread")
        if threading.current_thread() is threading.main_thread():
            # The process is ours, and the interpreter cannot be taken down around that thread.
            logging.shutdown()
            os._exit(1)


async def serve_plugin(plugin: NylonPlugin, options: WorkerOptions) -> None:
    """Serve any plugin in the running loop, without touching signals; see `NatsPlugin.serve`."""
    await Serving(plugin, options).run()


def calm_collector() -> None:
    """Keep Python's cyclic collector from looking at every batch of calls and at all that was imported.

    Handlers that wait hold a few hundred objects, which is what starts a collection by default: an eighth of the
    worker's time. A threshold that the program has set higher, or to 0, stays.
    """
    gc.collect()
    gc.freeze()
    first, *others = gc.get_threshold()
    if 0 < first < COLLECT_AFTER:
        gc.set_threshold(COLLECT_AFTER, *others)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed, and not switched off by NYLON_LOOP=asyncio."""
    if os.environ.get("NYLON_LOOP") == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def stopped_by_signals(serving: Serving, second_signal: bool) -> Iterator[None]:
    """SIGTERM and SIGINT drain; with `second_signal` the second one ends the process by that signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop(number: signal.Signals) -> None:
        if serving.stopping:
            if not second_signal:
                return
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            os._exit(128 + number)  # process 1 of a container: the system ignores what it does not handle
        logger.info("%s: draining%s", number.name, " (again to stop at once)" if second_signal else "")
        serving.stop()

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
