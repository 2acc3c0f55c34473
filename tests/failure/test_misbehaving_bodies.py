"""A worker that sends bodies and streams as the protocol forbids: broken off, never used by half, never complete."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgpack
import nats
import pytest
from nats.aio.client import Client
from support.client import Answer, Connection, Truncated, fetch, request_bytes
from support.configs import gateway_config, route
from support.processes import GatewayProcess

GROUP, WORKER = "misbehaving", "w1"
PART = 128 * 1024
Send = Callable[..., Awaitable[None]]
Script = Callable[[Send, "asyncio.Queue[dict[str, Any]]"], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted_worker(url: str, script: Script) -> AsyncIterator[list[int]]:
    """A worker whose `request_filter` is a script: it sends frames about the call, and gets those of the gateway.

    Requests to `/ready` are answered; what this gives is the phases that the gateway called for them.
    """
    phases: list[int] = []
    client: Client = await nats.connect(url)
    own: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scripts: set[asyncio.Task[None]] = set()

    async def on_call(message: Any) -> None:
        call = msgpack.unpackb(message.data)

        async def send(kind: str, **keys: Any) -> None:
            frame = {"t": kind, "v": 1, "id": call["id"], "w": WORKER, **keys}
            await client.publish(message.reply, msgpack.packb(frame))

        await send("ack")
        if call["q"]["p"] == "/ready":
            phases.append(call["p"])
            return await send("reply", o="end" if call["p"] == 1 else "next")
        scripts.add(asyncio.create_task(script(send, own)))
        return None

    async def on_own(message: Any) -> None:
        frame = msgpack.unpackb(message.data)
        if frame["t"] == "call":
            await on_call(message)
        else:
            own.put_nowait(frame)

    await client.subscribe(f"nylon.{GROUP}.w.{WORKER}", cb=on_own)
    await client.subscribe(f"nylon.{GROUP}.call", queue=GROUP, cb=on_call)
    await client.flush()
    info = {"t": "info", "v": 1, "w": WORKER, "g": GROUP, "sw": "0", "c": 64, "en": [["e", {"p": 1}]]}
    await client.publish(f"nylon.{GROUP}.workers", msgpack.packb(info))
    try:
        yield phases
    finally:
        for running in scripts:
            running.cancel()
        await client.close()


@pytest.fixture(scope="module")
def gateway(nylon_nats: Any) -> Any:
    per_phase = {"request_filter": {"timeout_ms": 2000, "retry": {"max": 0}}}
    plugin = {"name": "p", "type": "messaging", "messaging": "nats", "group": GROUP, "per_phase": per_phase}
    service = {"name": "served", "service_type": "plugin", "plugin": {"name": "p", "entry": "e"}}
    config = gateway_config(
        None,
        [route(["/", "/ready"], service="served")],
        services=[service],
        plugins=[plugin],
        messaging=[{"name": "nats", "servers": [nylon_nats.url]}],
    )
    with GatewayProcess(config) as started:
        yield started


def get(gateway: GatewayProcess, url: str, script: Script) -> Answer:
    """Ask once, with the script as the handler. Raises `Truncated` as the client does."""

    def ask() -> Answer:
        with Connection(gateway.address) as connection:
            connection.send(request_bytes("GET", "/"))
            return connection.read_answer()

    async def main() -> Answer:
        async with scripted_worker(url, script) as phases:
            while True:
                phases.clear()
                await asyncio.to_thread(fetch, gateway.address, "GET", "/ready")
                if phases == [1]:  # the gateway knows by now what this worker has
                    return await asyncio.to_thread(ask)

    return asyncio.run(main())


def chunk(which: str, number: int, data: bytes = b"", **keys: Any) -> dict[str, Any]:
    return {"kind": "chunk", "b": which, "n": number, "d": data, **keys}


END = {"kind": "reply", "o": "end", "op": [[12, 2 * PART]]}


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        ([chunk("r", 0, bytes(PART), to=2 * PART), chunk("r", 1, b"x" * PART, to=2 * PART), END], 200),
        ([chunk("r", 0, bytes(PART), to=2 * PART), chunk("r", 2, bytes(PART), to=2 * PART), END], 502),
        ([chunk("r", 1, bytes(PART), to=2 * PART)], 502),
        ([chunk("r", 0, bytes(PART), to=PART - 1)], 502),
        ([chunk("r", 0, bytes(PART), to=2 * PART), END], 502),
        ([chunk("r", 0, bytes(PART + 1), to=2 * PART)], 502),
        ([chunk("r", 0, bytes(PART), to=1 << 40)], 413),
        ([chunk("q", 0, bytes(PART), to=PART), {"kind": "reply", "o": "end", "op": [[12, PART]]}], 502),
        ([END], 502),
    ],
    ids=["good", "gap", "no start", "too much", "half", "large part", "too large", "another body", "none"],
)
def test_a_body_that_is_not_sent_as_it_should_is_not_used(
    gateway: GatewayProcess, nylon_nats: Any, frames: list[dict[str, Any]], status: int
) -> None:
    async def script(send: Send, own: asyncio.Queue[dict[str, Any]]) -> None:
        for frame in frames:
            await send(**frame)
            if frame["kind"] == "chunk" and frame["n"] == 0 and frame["to"] > PART:
                await own.get()

    answer = get(gateway, nylon_nats.url, script)
    assert answer.status == status
    if status == 200:
        assert answer.body == bytes(PART) + b"x" * PART
    else:
        assert b"x" * 100 not in answer.body


def test_a_body_that_stops_coming_ends_the_call(gateway: GatewayProcess, nylon_nats: Any) -> None:
    async def script(send: Send, own: asyncio.Queue[dict[str, Any]]) -> None:
        await send(**chunk("r", 0, bytes(PART), to=2 * PART))

    assert get(gateway, nylon_nats.url, script).status == 504


BEGIN = {"kind": "reply", "o": "stream", "op": [[8, 202]]}


def test_a_stream_of_a_foreign_worker_is_whole(gateway: GatewayProcess, nylon_nats: Any) -> None:
    async def script(send: Send, own: asyncio.Queue[dict[str, Any]]) -> None:
        await send(**BEGIN)
        await send(**chunk("s", 0, b"a"))
        await send(**chunk("s", 1, b"b", end=True))
        await send(**chunk("s", 2, b"never"))

    answer = get(gateway, nylon_nats.url, script)
    assert (answer.status, answer.body) == (202, b"ab")


@pytest.mark.parametrize(
    "frames",
    [
        [chunk("s", 0, b"a"), chunk("s", 2, b"c", end=True)],
        [chunk("s", 0, b"a"), chunk("s", 0, b"a", end=True)],
        [chunk("s", 0, bytes(PART + 1), end=True)],
        [chunk("s", 0, b"a"), chunk("s", 1, er={"k": "raised", "m": "boom"})],
        [chunk("s", 0, b"a"), {"kind": "chunk", "b": "s", "n": "one"}],
        [chunk("s", 0, b"a")],
        [chunk("s", number, b"a") for number in range(200)],
    ],
    ids=["gap", "twice", "large", "raised", "malformed", "silence", "flood"],
)
def test_a_stream_that_is_not_sent_as_it_should_is_broken_off(
    gateway: GatewayProcess, nylon_nats: Any, frames: list[dict[str, Any]]
) -> None:
    told: list[dict[str, Any]] = []

    async def script(send: Send, own: asyncio.Queue[dict[str, Any]]) -> None:
        await send(**BEGIN)
        for frame in frames:
            await send(**frame)
        while True:
            told.append(await own.get())

    with pytest.raises(Truncated) as caught:
        get(gateway, nylon_nats.url, script)
    assert set(caught.value.received) <= set(b"a")
