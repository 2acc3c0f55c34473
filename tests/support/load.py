"""Many requests over many connections, each answer looked at.

A load generator that only counts would not see a single wrong answer; a client per request would take minutes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import uvloop

from support.client import Address


class _Client(asyncio.Protocol):
    """Sends the same request over and over on one connection."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        if self._load.left > 0:
            self._load.left -= 1
            self._transport.write(self._load.request)
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return
        self._buffer = b""
        self._load.statuses[int(head[9:12]) if len(rest) == length else 0] += 1
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._buffer or error:
            self._load.statuses[0] += 1
        if not self.done.done():
            self.done.set_result(None)


class _Load:
    def __init__(self, request: bytes, count: int) -> None:
        self.request = request
        self.left = count
        self.statuses: Counter[int] = Counter()

    async def run(self, address: Address, connections: int) -> None:
        loop = asyncio.get_running_loop()
        failed = loop.create_future()
        loop.set_exception_handler(lambda _, context: failed.done() or failed.set_result(context))
        made = [await loop.create_connection(lambda: _Client(self), *address) for _ in range(connections)]
        done = asyncio.gather(*(client.done for _, client in made))
        async with asyncio.timeout(300):
            await asyncio.wait({done, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise AssertionError(f"the load generator itself failed: {failed.result()}")


def send_many(address: Address, request: bytes, *, count: int, connections: int) -> Counter[int]:
    """Send `request` `count` times; how many answers had which status (0: the connection broke)."""
    load = _Load(request, count)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load.run(address, connections))
    return load.statuses
