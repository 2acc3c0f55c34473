"""Stands in for a gateway: calls a worker over NATS with frames made by hand.

It speaks the protocol with msgpack and nats-py only, so that a worker is tested against the protocol's words and not
against our own encoder.
"""

import asyncio
import contextlib
import itertools
import os
from dataclasses import dataclass, field

import msgpack
import nats
from nats.aio.msg import Msg

from nylon.broker import WorkerOptions
from nylon.serving import Serving
from nylon.testing.workers import Started

PHASES = {"request_filter": 1, "response_filter": 2, "response_body_filter": 3, "logging": 4}


def call_frame(entry, phase="request_filter", **change):
    """A call's map; `change` replaces or adds keys, None removes one."""
    frame = {
        "t": "call",
        "v": 1,
        "id": os.urandom(16),
        "s": os.urandom(16),
        "a": 1,
        "pl": "auth",
        "e": entry,
        "p": PHASES[phase],
        "ms": 5000,
        "f": {
            "id": os.urandom(16),
            "sc": "http",
            "h": "example.com",
            "ip": bytes([192, 0, 2, 1]),
            "at": 1_700_000_000_000_000_000,
        },
        "q": {
            "m": "GET",
            "p": "/hello",
            "q": "a=1",
            "ver": 11,
            "h": [[b"x-api-key", b"secret"], [b"accept", b"*/*"]],
        },
    }
    frame.update(change)
    return {key: value for key, value in frame.items() if value is not None}


@dataclass
class Answer:
    """What came back for one call."""

    frame: dict
    """The last frame: a reply, a busy, or a read."""
    before: list[str] = field(default_factory=list)
    """The kinds of the frames before it."""

    @property
    def outcome(self):
        return self.frame.get("o", self.frame["t"])

    @property
    def error(self):
        return self.frame.get("er", {})

    @property
    def worker(self):
        return self.frame["w"]

    @property
    def ops(self):
        return self.frame.get("op", [])


class Requester:
    """One gateway's connection."""

    def __init__(self, client, group, prefix="nylon"):
        self.client = client
        self.group = group
        self.prefix = prefix
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Queue] = {}
        self.claims: list[dict] = []
        """All claims so far."""
        self.grant = lambda _claim: True
        """The answer to a claim; None gives none."""
        self._numbers = itertools.count()

    @classmethod
    async def connect(cls, url, group, prefix="nylon", **options):
        async def quiet(_error):
            pass

        client = await nats.connect(
            url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=quiet, **options
        )
        self = cls(client, group, prefix)
        await client.subscribe(f"{self._inbox}.*", cb=self._on_message)
        await client.flush()
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.client.close()

    async def _on_message(self, message: Msg):
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None:
            return
        if message.headers and message.headers.get("Status") == "503":
            waiting.put_nowait({"t": "no responders"})
            return
        frame = msgpack.unpackb(message.data, strict_map_key=False)
        if frame["t"] != "claim":
            waiting.put_nowait(frame)
            return
        self.claims.append(frame)
        answer = self.grant(frame)
        if answer is not None:
            await self.tell(frame["w"], t="grant", id=frame["id"], ok=answer)

    def subject(self, worker=None):
        return f"{self.prefix}.{self.group}." + (f"w.{worker}" if worker else "call")

    async def send(self, payload, worker=None):
        """Publish raw bytes with a reply subject; returns the queue that answers come to, and its name."""
        token = str(next(self._numbers))
        queue = self._waiting[token] = asyncio.Queue()
        await self.client.publish(self.subject(worker), payload, reply=f"{self._inbox}.{token}")
        return queue, token

    async def raw(self, payload, worker=None, patience=5.0):
        """Publish raw bytes; the first answer that is no ack."""
        queue, token = await self.send(payload, worker)
        before = []
        try:
            async with asyncio.timeout(patience):
                while True:
                    frame = await queue.get()
                    if frame["t"] != "ack":
                        return Answer(frame, before)
                    before.append(frame["t"])
        finally:
            del self._waiting[token]

    async def call(self, entry, phase="request_filter", *, worker=None, patience=5.0, **change):
        """Call an entry; `change` as in `call_frame`."""
        frame = call_frame(entry, phase, **change)
        return await self.raw(msgpack.packb(frame), worker, patience)

    async def until_served(self, entry):
        """Wait until a worker answers."""
        async with asyncio.timeout(10):
            # A refusal is the only sign there is: nothing would set an event.
            while (await self.call(entry)).outcome == "no responders":  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def tell(self, worker, **frame):
        """Send a frame that wants no answer to a worker's own subject."""
        await self.client.publish(self.subject(worker), msgpack.packb({"v": 1, **frame}))

    async def probe(self, worker, call_id, patience=5.0):
        """Ask a worker for a call; what it answers."""
        queue, token = await self.send(msgpack.packb({"t": "probe", "v": 1, "id": call_id}), worker)
        try:
            return await asyncio.wait_for(queue.get(), patience)
        finally:
            del self._waiting[token]

    async def close_session(self, worker, session):
        await self.tell(worker, t="close", s=session)


@contextlib.asynccontextmanager
async def serving(plugin, url, group="g", **options):
    """Serve a plugin while the block runs; gives the running `Serving`, subscribed and announced."""
    started = asyncio.Event()
    settings = WorkerOptions(servers=(url,), group=group, **{"drain_timeout": 5.0, **options})
    worker = Serving(plugin, settings, Started(started.set))
    task = asyncio.create_task(worker.run())
    begun = asyncio.create_task(started.wait())
    try:
        async with asyncio.timeout(20):
            await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield worker
        worker.stop()
        async with asyncio.timeout(20):
            await task
    finally:
        for waiting in (task, begun):
            waiting.cancel()
        await asyncio.gather(task, begun, return_exceptions=True)


async def until(condition, patience=10.0):
    """Wait until `condition()` is true."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110  # whatever it looks at has no event
            await asyncio.sleep(0.005)


def run(main, broker, plugin, **options):
    """Run `main(gateway, worker)` with `plugin` served by one worker."""

    async def body():
        async with (
            serving(plugin, broker.url, **options) as worker,
            await Requester.connect(broker.url, "g") as gateway,
        ):
            await main(gateway, worker)

    asyncio.run(body())
