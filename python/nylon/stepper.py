"""How an ``async def`` handler starts: its first step at once, as part of a real task.

Most handlers never wait, and a task of its own for each (made, scheduled, run in the next turn of the loop)
costs more than the handler. So the stepper runs the first step directly and only a handler that waits gets the
rest of its life as a task. ``asyncio.timeout``, ``TaskGroup``, aiohttp and httpx ask for the current task before
that, and the one they see must be the one that goes on later. Therefore a *spare* task stands by, parked on a
future: it is the current task during the first step, and it is woken to go on with the handler if that waits.
A spare whose handler did not wait serves the next one, unless the handler left traces in it.
"""

import asyncio
import contextvars
import sys
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

from nylon import _core

__all__ = ["Handler", "Stepper"]

#: An ``async def`` handler.
Handler = Callable[[_core.Context], Coroutine[Any, Any, None]]


class _Spare:
    """A parked task, and what it is to go on with."""

    __slots__ = ("context", "ctx", "gate", "job", "references", "run", "task", "yielded")

    def __init__(self, loop: asyncio.AbstractEventLoop, base: contextvars.Context, name: str) -> None:
        self.gate: asyncio.Future[None] = loop.create_future()
        self.job: Coroutine[Any, Any, None] | None = None
        self.yielded: Any = None
        self.ctx: _core.Context | None = None
        self.context = base.copy()
        self.run = self.context.run
        self.task = asyncio.Task(_live(self), loop=loop, name=name, context=self.context)
        # Who else holds the task now: the loop's queue until it is parked. More than that is a trace.
        self.references = sys.getrefcount(self.task)

    def dispose(self) -> None:
        """Ends a task that no handler goes on with."""
        self.ctx = None
        if not self.task.done():
            self.task.cancel()


async def _live(spare: _Spare) -> None:
    """What a spare task runs: nothing until a handler waits, then the rest of that handler."""
    error: BaseException | None = None
    try:
        await _resume(spare)
    except asyncio.CancelledError as cancelled:
        if spare.ctx is None:
            raise
        error = cancelled
    except BaseException as raised:  # the loop must survive a handler's SystemExit
        error = raised
    ctx, spare.ctx, spare.job, spare.yielded = spare.ctx, None, None, None
    if ctx is not None:
        _core._finish(ctx, error)


@coroutine
def _resume(spare: _Spare) -> Generator[Any, Any, None]:
    cancelled: BaseException | None = None
    try:
        yield from spare.gate
    except asyncio.CancelledError as error:
        cancelled = error
    job = spare.job
    if job is None:
        raise cancelled or asyncio.CancelledError
    yielded, spare.yielded = spare.yielded, None
    try:
        if cancelled is None:
            try:
                yield yielded
            except BaseException as error:
                cancelled = error
        elif yielded is not None:
            yielded.cancel()
        if cancelled is None:
            yield from job
            return
        yielded = job.throw(cancelled)
        del cancelled
        # The handler caught it and waits for something else: from here on nothing is special.
        while True:
            try:
                yield yielded
            except BaseException as error:
                yielded = job.throw(error)
            else:
                yield from job
                return
    except StopIteration:
        return


class Stepper:
    """Starts handlers on one event loop. Use it on that loop's thread, from a callback (never from a task)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._base = contextvars.copy_context()
        self._spare: _Spare | None = None

    def start(self, handler: Handler, ctx: _core.Context) -> None:
        """Runs the first step of a handler. Its call is finished in any case, now or when its task ends."""
        spare = self._spare
        if spare is None:
            spare = _Spare(self._loop, self._base, self._name)
        else:
            self._spare = None
        task = spare.task
        loop = self._loop
        try:
            job = handler(ctx)
            _enter_task(loop, task)
            try:
                yielded = spare.run(job.send, None)
            finally:
                _leave_task(loop, task)
        except StopIteration:
            _core._finish(ctx)
        except BaseException as error:  # the loop must survive a handler's SystemExit
            _core._finish(ctx, error)
        else:
            spare.job, spare.yielded, spare.ctx = job, yielded, ctx
            if not spare.gate.done():
                spare.gate.set_result(None)
            if not _core._suspend(ctx, task):
                task.cancel()
            return
        del ctx
        if (
            self._spare is None
            and spare.context == self._base
            and sys.getrefcount(task) <= spare.references + 1
            and not task.cancelling()
            and not spare.gate.done()
        ):
            self._spare = spare
        else:
            spare.dispose()

    def close(self) -> None:
        """Ends the spare task."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.dispose()
