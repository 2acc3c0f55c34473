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
from typing import Any, NoReturn

from nylon import _core

__all__ = ["Handler", "Stepper"]

#: An ``async def`` handler.
Handler = Callable[[_core.Context], Coroutine[Any, Any, None]]


class _Spare(Coroutine[Any, None, None]):
    """The coroutine of a spare task: it waits for a handler, and from then on it is that handler.

    A class and not an ``async def``, because a task that is cancelled before its first turn throws into a
    coroutine that has not begun: an ``async def`` would end right there, with the handler that it was given.
    """

    __slots__ = ("context", "ctx", "gate", "job", "references", "run", "task", "yielded")

    def __init__(self, loop: asyncio.AbstractEventLoop, base: contextvars.Context, name: str) -> None:
        self.gate: asyncio.Future[None] = loop.create_future()
        self.job: Coroutine[Any, Any, None] | None = None
        #: What the handler's first step waits for, until the task has passed it on to the loop.
        self.yielded: list[Any] = []
        self.ctx: _core.Context | None = None
        self.context = base.copy()
        self.run = self.context.run
        self.task: asyncio.Task[None] = asyncio.Task(self, loop=loop, name=name, context=self.context)
        # Who holds the task now: this object, the loop's queue until it is parked. One more is a trace.
        self.references = sys.getrefcount(self.task)

    def go_on(self, ctx: _core.Context, job: Coroutine[Any, Any, None], yielded: Any) -> None:
        """Gives the task a handler that waits."""
        self.ctx, self.job = ctx, job
        self.yielded.append(yielded)
        if not self.gate.done():
            self.gate.set_result(None)
        if not _core._suspend(ctx, self.task):
            self.task.cancel()

    def dispose(self) -> None:
        """Ends a task that no handler goes on with."""
        self.task.cancel()
        del self.task  # a cycle: the task holds this object

    def send(self, value: None, /) -> Any:
        """The task's next step."""
        if self.job is None:
            # What `await self.gate` would do.
            self.gate._asyncio_future_blocking = True
            return self.gate
        if self.yielded:
            return self.yielded.pop()
        try:
            return self.job.send(value)
        except BaseException as error:
            self._finish(error)

    def throw(self, kind: Any, value: Any = None, trace: Any = None, /) -> Any:
        """The task's next step, where it is cancelled or what it waited for has failed."""
        error = kind if isinstance(kind, BaseException) else value if value is not None else kind()
        if self.job is None:
            raise error
        if self.yielded:
            awaited = self.yielded.pop()
            if awaited is not None:
                awaited.cancel()
        try:
            return self.job.throw(error)
        except BaseException as raised:
            self._finish(raised)

    def close(self) -> None:
        """Ends the handler as the loop's end does."""
        if self.job is not None:
            self.job.close()

    def __await__(self) -> Generator[Any, None, None]:
        """Not for use: a task drives it."""
        raise TypeError("a spare task is driven by its task only")

    def _finish(self, error: BaseException) -> NoReturn:
        ctx, self.ctx = self.ctx, None
        if ctx is not None:
            del self.task  # a cycle: the task holds this object
            # Also a SystemExit ends here: the loop must survive it.
            _core._finish(ctx, None if isinstance(error, StopIteration) else error)
        raise StopIteration from None


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
            spare.go_on(ctx, job, yielded)
            return
        if (
            spare.context == self._base
            and sys.getrefcount(task) <= spare.references + 1
            and not task.cancelling()
        ):
            self._spare = spare
        else:
            spare.dispose()

    def close(self) -> None:
        """Ends the spare task."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.dispose()
