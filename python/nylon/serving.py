"""A worker's life: connect, subscribe, announce; on the way out the same in reverse.

The calls themselves are taken apart, dispatched and answered in Rust (`nylon._core.Worker`), on the bytes as they
arrive; see transport.py for how they get there. What is here happens once per connection or once per worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import secrets
import threading
from collections.abc import Coroutine
from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from nylon import _core
from nylon.broker import Broker, WorkerOptions, describe
from nylon.errors import WorkerError
from nylon.loading import plugin_error
from nylon.micro import WorkerService
from nylon.observer import Observer, describe_entries
from nylon.plugin import NylonPlugin
from nylon.stepper import Stepper
from nylon.transport import drain, round_trip

__all__ = ["Serving", "served_phases", "serving_of"]

logger = logging.getLogger("nylon.worker")

TICK = 0.05
"""Seconds between looks at deadlines and at the clock: a worker that stood still has to know it within 200 ms."""

_serving: dict[NylonPlugin, Serving] = {}


def serving_of(plugin: NylonPlugin) -> Serving | None:
    """Who serves this plugin now, if anybody does."""
    return _serving.get(plugin)


async def served_phases(plugin: NylonPlugin, options: WorkerOptions) -> dict[str, list[str]]:
    """The phases of each entry that a worker would announce. Initializes the plugin, and serves nothing.

    Raises `PluginError` as serving would.
    """
    serving = Serving(plugin, options)
    await serving._initialize()
    try:
        core = serving._load()
        try:
            return {name: list(phases) for name, phases in core.entries()}
        finally:
            core.close()
    finally:
        await serving._shutdown()


class Serving:
    """One worker's life: made in the loop that runs it, `run()` once."""

    def __init__(
        self,
        plugin: NylonPlugin,
        options: WorkerOptions,
        observer: Observer | None = None,
    ) -> None:
        self.plugin = plugin
        self.options = options
        self.worker = secrets.token_hex(8)
        self.stuck = False
        """A handler did not end in time and holds a thread: the interpreter cannot be taken down around it."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._stop = asyncio.Event()
        self._closed = threading.Event()
        self._observer = observer or Observer()
        self._plain = options.transport == "plain"
        self._publishing: asyncio.Task[None] | None = None
        self._subscriptions: list[Subscription] = []
        self._catching_up: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle
        self._broker = Broker(options, self.worker, self._online, self._offline)
        self._core: _core.Worker

    @property
    def stopping(self) -> bool:
        """Whether it has been asked to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Begin to drain; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to stop
            self._loop.call_soon_threadsafe(self._stop.set)

    def wait_closed(self) -> None:
        """Wait for the end, unless called by the thread that would have to bring it about."""
        if threading.get_ident() != self._thread:
            self._closed.wait()

    async def run(self) -> None:
        """Serve until stopped, then drain. Nothing of the worker is left when this returns or raises."""
        _serving[self.plugin] = self
        try:
            await self._initialize()
            try:
                await self._serve(self._load())
            finally:
                await self._shutdown()
        finally:
            _serving.pop(self.plugin, None)
            self._closed.set()

    async def _serve(self, core: _core.Worker) -> None:
        self._loop.add_reader(core.wake_fd, self._on_wake)
        self._tick()
        try:
            self._observer.loaded(self)
            if await self._until_stop(self._start()):
                await self._stop_or_closed()
                self._observer.leaving(self)
                await self._drain()
        finally:
            self._ticking.cancel()
            if self._catching_up is not None:
                self._catching_up.cancel()
            await self._broker.close()
            self._loop.remove_reader(core.wake_fd)
            self.stuck = not core.close()

    # ---- the plugin ----

    def _load(self) -> _core.Worker:
        """Learns what the plugin registers: as in a gateway after `initialize`, whose work a setup may use."""
        self._core = _core.Worker(
            self.plugin._registry,
            Stepper(self._loop, f"nylon-{self.options.group}"),
            worker=self.worker,
            group=self.options.group,
            prefix=self.options.subject_prefix,
            concurrency=self.options.concurrency,
            inline=self.options.execution == "inline",
            threads=self.options.threads,
            plain=self._plain,
        )
        return self._core

    async def _initialize(self) -> None:
        for function in self.plugin._initialize:
            try:
                result = function(self.options.config)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                raise plugin_error("initialize", error, function) from error

    async def _shutdown(self) -> None:
        for function in reversed(self.plugin._shutdown):
            try:
                result = function()
                if inspect.isawaitable(result):
                    await asyncio.wait_for(result, self.options.drain_timeout or None)
            except Exception:
                logger.exception("the plugin's shutdown failed")

    # ---- the way in ----

    async def _start(self) -> None:
        """Connect, subscribe, announce. Raises `WorkerError` where the broker does not let it."""
        await self._broker.connect(None if self._plain else self._core.protocol)
        client = self._broker.client
        try:
            await self._subscribe()
            while not await self._is_subscribed():  # noqa: ASYNC110 (asking is the only way to know)
                await asyncio.sleep(TICK)
            await self._online()
        except nats.errors.Error as error:
            if client.is_closed:
                raise self._ended() from error
            raise WorkerError(f"cannot subscribe at {self._broker.servers}: {describe(error)}") from error
        self._observer.serving(self)

    async def _subscribe(self) -> None:
        """Own subject first, so that nothing that follows a call can miss it."""
        core, client = self._core, self._broker.client
        self._own = await client.subscribe(core.own_subject, cb=self._on_own_message)
        self._service = WorkerService(client, core)
        await self._service.start()
        self._calls = await client.subscribe(core.call_subject, queue=core.group, cb=self._on_call_message)
        self._subscriptions += [self._own, self._calls]
        if not self._plain:
            # A message that came before these lines took the callback, and was served all the same.
            core.take_subscription(self._own._id, True)
            core.take_subscription(self._calls._id, False)

    async def _is_subscribed(self) -> bool:
        """Whether the broker says so. A connection that is lost meanwhile brings the subscriptions back with it."""
        try:
            await round_trip(self._broker.client)
        except nats.errors.FlushTimeoutError:
            return False
        return True

    async def _online(self) -> None:
        """The connection is up and subscribed: send what waits, say what is served here."""
        client = self._broker.client
        self._core.online(client.max_payload)
        self._publish_soon()
        await client.publish(self._core.announce_subject, self._core.info())

    def _offline(self) -> None:
        self._core.offline()
        if self._catching_up is not None:
            self._catching_up.cancel()  # its ping will not be answered; the next tick sees that there is no need

    # ---- while it serves ----

    async def _on_call_message(self, message: Msg) -> None:
        """The plain path. Handlers start in a callback of the loop: here a task of nats-py is the current one."""
        self._loop.call_soon(self._core.receive, False, message.reply, message.data)

    async def _on_own_message(self, message: Msg) -> None:
        self._loop.call_soon(self._core.receive, True, message.reply, message.data)

    def _on_wake(self) -> None:
        """A thread, or a handler that waited, has left something to send."""
        self._core.wake()
        self._publish_soon()

    def _publish_soon(self) -> None:
        """The plain path's way out."""
        if self._plain and self._publishing is None:
            self._publishing = self._loop.create_task(self._publish())

    async def _publish(self) -> None:
        try:
            while publications := self._core.take_publications():
                for subject, reply, payload in publications:
                    await self._broker.client.publish(subject, payload, reply=reply)
        except nats.errors.Error as error:
            logger.warning("replies were lost: %s", describe(error))
        finally:
            self._publishing = None

    def _tick(self) -> None:
        """Deadlines, idle sessions, old replies, and whether the worker stood still."""
        self._ticking = self._loop.call_later(TICK, self._tick)
        self._observer.tick(self)
        if self._core.tick() and self._catching_up is None:
            self._catching_up = self._loop.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        """After a stall: learn when all that was sent before has been read. Until then calls are claimed first.

        The broker answers in order: what comes after its answer to a ping was sent after the ping.
        """
        core, client = self._core, self._broker.client
        try:
            while (stall := core.stall) is not None:
                try:
                    if client.is_connected:
                        await client.flush()
                except nats.errors.Error:
                    await asyncio.sleep(TICK)
                    continue
                # Else the next connection has nothing old in it.
                await self._handed_over()
                core.caught_up(stall)
        finally:
            self._catching_up = None

    async def _handed_over(self) -> None:
        """Until nats-py has handed over what it had read: in the plain path messages pass queues of its own."""
        if self._plain:
            while any(subscription.pending_msgs for subscription in self._subscriptions):  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0)
            await asyncio.sleep(0)  # the last one's callback has been called: now what that has put off

    async def _until_stop(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, unless asked to stop meanwhile; whether it was done."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return False
            await task
            return True
        finally:
            task.cancel()
            stop.cancel()

    async def _stop_or_closed(self) -> None:
        stop = asyncio.create_task(self._stop.wait())
        closed = asyncio.create_task(self._broker.closed.wait())
        try:
            await asyncio.wait({stop, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            closed.cancel()
        if self._broker.closed.is_set():
            raise self._ended()

    def _ended(self) -> WorkerError:
        why = describe(self._broker.client.last_error or "no reason given")
        return WorkerError(f"the broker at {self._broker.servers} ended the connection for good: {why}")

    # ---- the way out ----

    async def _drain(self) -> None:
        """Leave the group, finish what runs, and only then let the connection go.

        nats-py's own drain waits for its callbacks only, and would lose the handlers that still run.
        """
        core, client = self._core, self._broker.client
        deadline = self._loop.time() + self.options.drain_timeout
        try:
            if client.is_connected:
                # No answer to $SRV.INFO may come after `leave`: it would bring the worker back.
                await self._service.stop()
                await client.publish(core.announce_subject, core.leave())
                await drain(client, self._calls)
            await self._finish_calls(deadline)
            if client.is_connected:
                await drain(client, self._own)
                # What was on its way to the own subject when that was given up has come with the flush: a gateway that
                # did not know yet, or the next phase of an exchange.
                await self._finish_calls(deadline)
                await client.drain()
        except nats.errors.Error as error:
            # The broker is away: the closed connection tells it the same.
            logger.warning("drained without the broker: %s", describe(error))

    async def _finish_calls(self, deadline: float) -> None:
        """Until nothing runs, no session is open, and every reply has been written."""
        core, client = self._core, self._broker.client
        await self._handed_over()
        while core.in_flight or core.sessions or (core.unsent and client.is_connected):
            if self._loop.time() >= deadline:
                logger.warning(
                    "the drain time of %g s is over: giving up %d calls and %d sessions",
                    self.options.drain_timeout,
                    core.in_flight,
                    core.sessions,
                )
                core.give_up()
                break
            await asyncio.sleep(0.01)
        self._on_wake()
        if self._publishing is not None:
            await self._publishing

    @property
    def servers(self) -> str:
        """The brokers' URLs, for the log: without credentials."""
        return self._broker.servers

    @property
    def entries(self) -> list[tuple[str, list[str]]]:
        """What it serves: the entries with their phases."""
        return self._core.entries()

    @property
    def calls(self) -> int:
        """How many calls it has had."""
        return int(self._core.stats()["calls"])

    def banner(self) -> str:
        """What is served where, for the log."""
        return (
            f"serving group {self.options.group} via {self.servers} as worker {self.worker} "
            f"(concurrency {self.options.concurrency}): {describe_entries(self.entries)}"
        )
