"""One worker process as its supervisor sees it: started with its orders, heard over the status pipe, ended by signal.

Each is a fresh interpreter (`python -m nylon.worker`), never a fork: the loop, the threads and the broker connection
of one process cannot live on in another. What it has to know, credentials included, goes through its standard
input, where no other user can read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from nylon.worker import Orders

__all__ = ["Heard", "Report", "WorkerProcess", "describe_end"]

logger = logging.getLogger("nylon.supervisor")

Report = dict[str, Any]
"""What a worker says of itself: see reporting.py."""
Heard = Callable[["WorkerProcess", Report], None]
"""Who is told of a report."""


class WorkerProcess:
    """Made by `start`. Runs until it is asked to end, or ends by itself."""

    def __init__(
        self, process: asyncio.subprocess.Process, number: int, generation: int, status_fd: int, heard: Heard
    ) -> None:
        self.number = number
        self.generation = generation
        """Which reload of the supervisor it belongs to: what it has loaded is at least that new."""
        self.started = time.monotonic()
        self.loaded: Report | None = None
        """What it serves and how, once the plugin is loaded."""
        self.serves = asyncio.Event()
        """Set once it is connected and subscribed."""
        self._serves_since: float | None = None
        self._process = process
        self._status_fd = status_fd
        self._heard = heard
        self._line = b""
        asyncio.get_running_loop().add_reader(status_fd, self._read)

    @classmethod
    async def start(
        cls, orders: Orders, generation: int, heard: Heard, environment: dict[str, str] | None = None
    ) -> Self:
        """Start one; `orders.status_fd` is filled in. Raises `OSError` where the system has no room for a process."""
        status, child_end = os.pipe()
        os.set_blocking(status, False)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "nylon.worker",
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(child_end,),
                env={**os.environ, **(environment or {})},
                # Its own session: a terminal's Ctrl-C reaches only the supervisor, which passes on one signal.
                start_new_session=True,
            )
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(child_end)
        worker = cls(process, orders.number, generation, status, heard)
        document = json.dumps(dataclasses.asdict(dataclasses.replace(orders, status_fd=child_end)))
        assert process.stdin is not None, "asked for with PIPE"
        try:
            process.stdin.write(document.encode())
            await process.stdin.drain()
        except ConnectionError:
            pass  # it died already: whoever waits for its end reports it
        except BaseException:  # nobody will know of it
            worker.kill()
            worker._close()
            raise
        finally:
            process.stdin.close()
        return worker

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    @property
    def served(self) -> float:
        """Seconds that it has served, 0 where it does not yet."""
        return 0.0 if self._serves_since is None else time.monotonic() - self._serves_since

    async def ended(self) -> int:
        """Wait for its end; its exit code, or less than 0 for the signal that killed it."""
        code = await self._process.wait()
        self._read()  # its last words
        self._close()
        return code

    def drain(self) -> None:
        """Ask it to finish what it has and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Not with the process's own send_signal: it reaps a child that has just died, whose exit code asyncio's watcher
        # then looks for in vain.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _read(self) -> None:
        if self._status_fd < 0:
            return
        try:
            data = os.read(self._status_fd, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close()
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            report = json.loads(line)
            step = report["step"]
            if step == "loaded":
                self.loaded = report
            elif step == "serving":
                self._serves_since = time.monotonic()
                self.serves.set()
            self._heard(self, report)

    def _close(self) -> None:
        if self._status_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._status_fd)
            os.close(self._status_fd)
            self._status_fd = -1


def describe_end(code: int) -> str:
    """How a process ended, for the log."""
    return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
