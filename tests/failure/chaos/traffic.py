"""A steady load of numbered requests, each answer kept.

Requests leave by the clock and not when the one before is done (an open loop): what waits in the gateway shows as
waiting, instead of making the load stop and look good. A thread of its own has the loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from support.client import Address

LANES = 256
"""Connections at most; a request that finds none free is an answer of status 0."""
PATIENCE = 30.0
"""Seconds after which a request counts as hung."""


@dataclass(frozen=True)
class Answer:
    """What became of one request."""

    number: int
    sent: float
    """`time.monotonic()` when it left."""
    seconds: float
    status: int
    """0 where none came."""
    headers: dict[str, str]
    body: str
    """The reason, where none came."""


class Traffic:
    """`rate` requests per second for `path`/1, `path`/2, … on one gateway. A context manager: it ends the load."""

    def __init__(self, address: Address, path: str, *, rate: float) -> None:
        self._address = address
        self._path = path
        self._rate = rate
        self._stop = threading.Event()
        self._answers: list[Answer] = []
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"traffic {path}")

    @property
    def answers(self) -> list[Answer]:
        """What has come so far, in the order of its coming."""
        return list(self._answers)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> list[Answer]:
        """Send no more, wait for what is under way, return all answers by number."""
        self._stop.set()
        self._thread.join()
        return sorted(self._answers, key=lambda answer: answer.number)

    async def _run(self) -> None:
        start = time.monotonic()
        number = 0
        lanes = asyncio.Semaphore(LANES)
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                number += 1
                await asyncio.sleep(max(0.0, start + number / self._rate - time.monotonic()))
                await lanes.acquire()
                group.create_task(self._one(number)).add_done_callback(lambda _: lanes.release())
        for _, writer in self._idle:
            writer.close()

    async def _one(self, number: int) -> None:
        sent = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                status, headers, body = await self._exchange(number)
        except TimeoutError:
            status, headers, body = 0, {}, f"no answer in {PATIENCE:g} s"
        except (OSError, EOFError, ValueError) as error:
            status, headers, body = 0, {}, repr(error)
        self._answers.append(Answer(number, sent, time.monotonic() - sent, status, headers, body))

    async def _exchange(self, number: int) -> tuple[int, dict[str, str], str]:
        lane = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        reader, writer = lane
        try:
            writer.write(f"GET {self._path}/{number} HTTP/1.1\r\nhost: chaos\r\n\r\n".encode())
            first, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
            body = await reader.readexactly(int(headers["content-length"]))
        except BaseException:
            writer.close()
            raise
        if headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append(lane)
        return int(first.split(" ")[1]), headers, body.decode("latin-1")
