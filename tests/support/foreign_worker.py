"""A worker written from docs/nats-protocol.md alone, with a NATS client and a MessagePack library and nothing of Nylon.

It is the proof that the page is enough, and a start for whoever writes one in another language: the sections below are
what such a worker has to do, in the order of the page's list. tests/hosts/test_foreign_worker.py runs it behind a real
gateway, through cases of the suite that Nylon's own hosts pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

Frame = dict[str, Any]
PHASES = ("request_filter", "response_filter", "response_body_filter", "logging")
REMEMBER_REPLIES, REMEMBER_IDS = 2.0, 30.0
"""Seconds for which a finished call's reply, and its id, are kept."""
REMEMBER_BYTES = 8 << 20
"""Bytes of all replies that are kept."""
BEAT, STALL = 0.05, 0.2
"""Seconds between two looks at the clock, and those without one that are a stall."""
CLAIM_WAIT = 1.0
"""Seconds to wait for the answer to a claim."""
PARTS = 8
"""Parts of a body that may be on their way."""


class Failure(Exception):
    """What a reply says instead of a decision: kind and text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Refused(Exception):
    """The call may not run here: nothing is to be said of it."""


def clock() -> float:
    """Seconds, also those for which the machine was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass
class Call:
    """A call and what its handler makes of it."""

    worker: Worker
    frame: Frame
    reply_to: str
    came: float
    """When; 0 where that may have been before a stall."""
    ops: list[list[Any]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = msgpack.unpackb(self.frame.get("st") or b"\x80")
        self.payload: Any = msgpack.unpackb(self.frame.get("py") or b"\xc0")
        self.params: dict[str, str] = dict(self.frame["f"].get("pm", []))

    def header(self, name: str, head: str = "q") -> str | None:
        """The first field of that name."""
        found = (value for key, value in self.frame.get(head, {}).get("h", []) if key == name)
        return next((value.decode("latin-1") for value in found), None)

    async def body(self, which: str) -> bytes:
        """`q` or `r`: from the call, or from the gateway where it did not travel along."""
        there = self.frame.get(which + "b")
        return there if isinstance(there, bytes) else await self.worker.read(self, which)


Handler = Callable[[Call], Awaitable[str | None]]
"""Returns `next` or `end`; None decides nothing."""


@dataclass
class Entry:
    """One entry: its handlers by phase number, and what its shape says beside them."""

    handlers: dict[int, Handler]
    flags: dict[str, bool] = field(default_factory=dict)

    @property
    def shape(self) -> Frame:
        """As frames have it."""
        return {"p": sum(1 << (phase - 1) for phase in self.handlers), **self.flags}

    @property
    def words(self) -> str:
        """As the micro service's metadata has it."""
        names = {"b": "body", "c": "stream", "s": "session"}
        return " ".join([PHASES[p - 1] for p in sorted(self.handlers)] + [names[flag] for flag in self.flags])


class Worker:
    """Serves entries in a group until SIGTERM."""

    def __init__(self, group: str, entries: dict[str, Entry], concurrency: int = 64) -> None:
        self.group, self.entries, self.concurrency = group, entries, concurrency
        self.id = secrets.token_hex(8)
        plain = (c if c.isascii() and (c.isalnum() or c == "_") else "-" for c in group)
        self.service = "nylon-" + "".join(plain)
        self.client = Client()
        self.running: dict[bytes, asyncio.Task[None]] = {}
        self.done: dict[bytes, tuple[float, bytes | None]] = {}
        self.waiting: dict[tuple[bytes, str], asyncio.Queue[Frame]] = {}
        self.sessions: set[bytes] = set()
        self.beat = clock()
        self.resumed = 0.0
        """When the last stall ended."""
        self.catching_up: asyncio.Task[None] | None = None

    # ---- frames out ----

    def packed(self, kind: str, **keys: Any) -> bytes:
        return msgpack.packb({"t": kind, "v": 1, **keys})

    async def sign(self, kind: str, call_id: bytes, reply_to: str, **keys: Any) -> None:
        await self.client.publish(reply_to, self.packed(kind, id=call_id, w=self.id, **keys))

    def announcement(self) -> bytes:
        entries = [[name, entry.shape] for name, entry in self.entries.items()]
        return self.packed("info", w=self.id, g=self.group, sw="0", c=self.concurrency, en=entries)

    # ---- frames in ----

    async def on_call(self, message: Msg) -> None:
        """A call, from the queue or to this worker alone."""
        self.look_at_clock()
        try:
            frame = msgpack.unpackb(message.data)
            call_id, _, _ = frame["id"], frame["f"]["id"], frame["q"]["p"]
        except Exception as error:
            return await self.malformed(message, error)
        if frame["t"] != "call":
            return await self.malformed(message, f"a {frame['t']} frame is not for this subject")
        if call_id in self.running:
            return await self.sign("ack", call_id, message.reply)
        if call_id in self.done:
            return await self.again(call_id, message.reply)
        if len(self.running) >= self.concurrency:
            return await self.sign("busy", call_id, message.reply)
        call = Call(self, frame, message.reply, came=0.0 if self.catching_up else clock())
        self.running[call_id] = asyncio.create_task(self.run(call))
        return None

    async def malformed(self, message: Msg, why: Any) -> None:
        """What cannot be read is answered, so that nobody waits for it."""
        error = {"k": "protocol", "m": f"not a frame for a worker: {why}"}
        if message.reply:
            await self.sign("reply", bytes(16), message.reply, o="error", er=error)

    async def again(self, call_id: bytes, reply_to: str) -> None:
        """A call that has run is answered as it was, never run once more."""
        reply = self.done[call_id][1]
        if reply is not None:
            await self.client.publish(reply_to, reply)
        else:
            await self.sign("unknown", call_id, reply_to)

    async def on_own(self, message: Msg) -> None:
        """Whatever comes to this worker's own subject."""
        self.look_at_clock()
        try:
            frame = msgpack.unpackb(message.data)
            kind, _ = frame["t"], frame["s" if frame["t"] == "close" else "id"]
        except Exception as error:
            return await self.malformed(message, error)
        match kind:
            case "call":
                await self.on_call(message)
            case "probe" if frame["id"] in self.running:
                await self.sign("ack", frame["id"], message.reply)
            case "probe" if frame["id"] in self.done:
                await self.again(frame["id"], message.reply)
            case "probe":
                await self.sign("unknown", frame["id"], message.reply)
            case "body" | "grant" as kind:
                waiting = self.waiting.get((frame["id"], kind))
                if waiting is not None:
                    waiting.put_nowait(frame)
            case "close":
                self.sessions.discard(frame["s"])
            case _:
                await self.malformed(message, f"a {kind} frame")
        return None

    # ---- a call's life ----

    async def run(self, call: Call) -> None:
        call_id, entry = call.frame["id"], self.entries.get(call.frame["e"])
        try:
            reply = await self.result(call, entry)
        except Refused:
            del self.running[call_id]
            return
        except Failure as why:
            reply = {"o": "error", "er": {"k": why.kind, "m": str(why)}}
        except TimeoutError:
            reply = {"o": "error", "er": {"k": "timed_out", "m": "the handler took too long"}}
        except Exception as error:
            reply = {"o": "error", "er": {"k": "raised", "m": f"{type(error).__name__}: {error}"}}
        if entry is not None:
            reply["x"] = entry.shape
        packed = self.packed("reply", id=call_id, w=self.id, **reply)
        if len(packed) > self.client.max_payload:
            why = {"k": "raised", "m": f"the reply has {len(packed)} bytes"}
            packed = self.packed("reply", id=call_id, w=self.id, o="error", er=why)
        await self.client.publish(call.reply_to, packed)
        del self.running[call_id]
        self.done[call_id] = (clock(), packed)

    async def result(self, call: Call, entry: Entry | None) -> Frame:
        handler = entry.handlers.get(call.frame["p"]) if entry else None
        if entry is None or handler is None:
            raise Failure("unknown_entry", f"no {call.frame['e']!r} for this phase here")
        await self.sign("ack", call.frame["id"], call.reply_to)
        if call.frame.get("cl") or self.stalled_since(call.came):
            await self.claim(call)
        if "s" in entry.flags:
            self.sessions.add(call.frame["s"])
        before = msgpack.packb(call.state)
        async with asyncio.timeout(call.frame["ms"] / 1000) as call_time:
            call.frame["time"] = call_time
            decision = await handler(call)
        if decision is None and call.frame["p"] == 1:
            raise Failure("undecided", "the handler decided nothing")
        reply: Frame = {"o": decision or "next"}
        if call.ops:
            reply["op"] = call.ops
        if (state := msgpack.packb(call.state)) != before:
            reply["st"] = state
        return reply

    async def claim(self, call: Call) -> None:
        """Ask whether the call may run here; again where the answer itself waited through a stall."""
        asked = 0.0
        while not asked or self.stalled_since(asked):
            asked = clock()
            try:
                async with self.answers(call, "grant") as answers:
                    await self.sign("claim", call.frame["id"], call.reply_to)
                    grant = await asyncio.wait_for(answers.get(), CLAIM_WAIT)
            except TimeoutError:
                raise Refused from None
            if not grant.get("ok"):
                raise Refused

    async def read(self, call: Call, which: str) -> bytes:
        """Ask for a body, of which a large one comes in parts.

        Neither the wait for the client nor the way of the parts counts: what is left afterwards comes with them. A
        worker that needs no body over the broker's `max_payload` leaves out `up`, and gets one message.
        """
        limit: asyncio.Timeout = call.frame["time"]
        limit.reschedule(None)
        body, number, room = bytearray(), 0, PARTS
        async with self.answers(call, "body") as answers:
            await self.sign("read", call.frame["id"], call.reply_to, b=which, up=room)
            while True:
                frame = await asyncio.wait_for(answers.get(), 600)
                if "er" in frame:
                    raise Failure(frame["er"]["k"], frame["er"]["m"])
                if frame.get("n", 0) != number:
                    raise Failure("protocol", "a part of the body is missing")
                body += frame["d"]
                number += 1
                size = frame.get("to", len(frame["d"]))
                if len(body) >= size:
                    break
                if room - number <= PARTS // 2:
                    room = number + PARTS
                    await self.sign("read", call.frame["id"], call.reply_to, b=which, up=room)
        if len(body) != size:
            raise Failure("protocol", "the body is larger than announced")
        limit.reschedule(asyncio.get_running_loop().time() + frame.get("ms", 0) / 1000)
        return bytes(body)

    @contextlib.asynccontextmanager
    async def answers(self, call: Call, kind: str) -> AsyncIterator[asyncio.Queue[Frame]]:
        """The gateway's frames of this kind about a call, while the block runs."""
        key = (call.frame["id"], kind)
        self.waiting[key] = asyncio.Queue()
        try:
            yield self.waiting[key]
        finally:
            del self.waiting[key]

    # ---- its own standing still ----

    def look_at_clock(self) -> None:
        """Whoever finds a gap behind the last look has found a stall: what waited through it must be claimed."""
        now, self.beat, gap = clock(), clock(), clock() - self.beat
        if gap > STALL:
            self.resumed = now
            if self.catching_up is None:
                self.catching_up = asyncio.create_task(self.catch_up())

    def stalled_since(self, moment: float) -> bool:
        return moment < self.resumed or clock() - self.beat > STALL

    async def catch_up(self) -> None:
        """Old messages may still be in the socket, until the server has answered a PING of after the stall."""
        while True:
            stall = self.resumed
            with contextlib.suppress(nats.errors.Error):
                await self.client.flush()
            await asyncio.sleep(0.05)  # nats-py's queue is behind what it has read
            if stall == self.resumed:
                break
        self.catching_up = None

    async def beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self.look_at_clock()

    # ---- the micro service ----

    async def on_service(self, message: Msg) -> None:
        verb = message.subject.split(".")[1].lower()
        metadata = {"nylon.protocol": "1", "nylon.worker": self.id, "nylon.group": self.group}
        metadata |= {"nylon.version": "0", "nylon.concurrency": str(self.concurrency)}
        metadata |= {f"nylon.entry.{entry}": kept.words for entry, kept in self.entries.items()}
        about = {
            "type": f"io.nats.micro.v1.{verb}_response",
            "name": self.service,
            "id": self.id,
            "version": "0.0.0",
        }
        await message.respond(json.dumps(about | {"metadata": metadata, "endpoints": []}).encode())

    # ---- a worker's life ----

    async def serve(self, url: str) -> None:
        """Connect, serve, and leave in good order on SIGTERM."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        announce, own = f"nylon.{self.group}.workers", f"nylon.{self.group}.w.{self.id}"

        async def reconnected() -> None:
            await self.client.publish(announce, self.announcement())

        await self.client.connect(
            url, max_reconnect_attempts=-1, reconnect_time_wait=0.2, reconnected_cb=reconnected
        )
        await self.client.subscribe(own, cb=self.on_own)
        for verb in ("PING", "INFO", "STATS"):
            for name in ("", f".{self.service}", f".{self.service}.{self.id}"):
                await self.client.subscribe(f"$SRV.{verb}{name}", cb=self.on_service)
        calls = await self.client.subscribe(f"nylon.{self.group}.call", queue=self.group, cb=self.on_call)
        await self.client.flush()
        await self.client.flush()  # nats-py's first PING may overtake what was said before it
        await reconnected()
        print(f"serving {self.group} as {self.id}", flush=True)
        housework = [asyncio.create_task(self.forget()), asyncio.create_task(self.beating())]
        await stop.wait()
        await self.client.publish(announce, self.packed("leave", w=self.id, g=self.group))
        await calls.drain()
        await self.finish(clock() + 10)
        for work in housework:
            work.cancel()
        with contextlib.suppress(nats.errors.Error):
            await self.client.drain()

    async def finish(self, deadline: float) -> None:
        """Until nothing runs and no session is open."""
        while (self.running or self.sessions) and clock() < deadline:  # noqa: ASYNC110 (emptied in many places)
            await asyncio.sleep(0.01)

    async def forget(self) -> None:
        """Replies go after a while, ids after a longer one."""
        while True:
            await asyncio.sleep(0.5)
            now, kept = clock(), 0
            for call_id, (when, reply) in reversed(list(self.done.items())):
                kept += len(reply or b"")
                if now - when > REMEMBER_IDS:
                    del self.done[call_id]
                elif reply is not None and (now - when > REMEMBER_REPLIES or kept > REMEMBER_BYTES):
                    self.done[call_id] = (when, None)
