"""A worker that keeps to the protocol but for one thing, which is the name of the entry that is called.

Made of the worker that knows nothing of Nylon; `python misbehaving_worker.py URL GROUP`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from support.foreign_worker import Call, Entry, Frame, Worker

FLOOD = 20_000


async def end(call: Call) -> str:
    """Answer with the entry's name."""
    call.ops += [[8, 200], [12, call.frame["e"].encode()]]
    return "end"


class Misbehaving(Worker):
    """Answers each call as its entry's name says."""

    async def run(self, call: Call) -> None:
        """The reply is a good one, until it is sent."""
        call_id, name = call.frame["id"], call.frame["e"]
        await self.sign("ack", call_id, call.reply_to)
        reply: Frame = {"id": call_id, "w": self.id, "o": await end(call), "op": call.ops}
        for frame in await self.spoilt(name, call, reply):
            await self.client.publish(call.reply_to, frame)
        if name != "silent":
            del self.running[call_id]

    async def spoilt(self, name: str, call: Call, reply: Frame) -> list[bytes]:
        """What is published in the reply's place."""

        def packed(**changes: Any) -> bytes:
            return self.packed("reply", **{**reply, **changes})

        match name:
            case "garbage":
                return [b"\xc1 no MessagePack"]
            case "cut-short":
                return [packed()[:-3]]
            case "no-frame":
                return [b"\x93\x01\x02\x03"]
            case "other-id":
                return [packed(id=os.urandom(16))]
            case "unknown-change":
                return [packed(op=[*call.ops, [99, "x"]])]
            case "smuggled-header":
                return [packed(op=[*call.ops, [9, "x-a\r\nx-b", b"1"]])]
            case "smuggled-value":
                return [packed(op=[*call.ops, [9, "x-a", b"1\r\nx-b: 2"]])]
            case "impossible-status":
                return [packed(op=[[8, 99]])]
            case "undecided":
                return [packed(o="perhaps")]
            case "huge-state":
                return [packed(st=bytes(100_000))]
            case "version-0":
                return [packed(v=0)]
            case "version-99":
                return [packed(v=99, later={"unknown": [1, 2, {"deep": True}]})]
            case "unknown-kind":
                return [self.packed("future", id=reply["id"], w=self.id, v=99), packed()]
            case "twice":
                return [packed(), packed()]
            case "late":
                await asyncio.sleep(call.frame["ms"] / 1000 + 0.3)
                return [packed()]
            case "silent":
                return []
            case "flood":
                return [self.packed("ack", id=reply["id"], w=self.id)] * FLOOD + [packed()]
            case "flood-of-garbage":
                await self.flood(call.reply_to.rpartition(".")[0])
                return [packed()]
            case _:
                return [packed()]

    async def flood(self, inbox: str) -> None:
        """Answers to calls that never were, and announcements that are none."""
        for number in range(FLOOD):
            await self.client.publish(f"{inbox}.{number}-7-1", b"\xc1")
            if number % 10 == 0:
                await self.client.publish(f"nylon.{self.group}.workers", b"\xc1")


SENSELESS = [
    "garbage",
    "cut-short",
    "no-frame",
    "unknown-change",
    "smuggled-header",
    "smuggled-value",
    "impossible-status",
    "undecided",
    "huge-state",
    "version-0",
]
"""A gateway cannot use any part of these."""
FLOODS = ["flood", "flood-of-garbage"]
NAMES = [
    *SENSELESS,
    *FLOODS,
    "good",
    "other-id",
    "version-99",
    "unknown-kind",
    "twice",
    "late",
    "silent",
]

if __name__ == "__main__":
    entries = {name: Entry({1: end}) for name in NAMES}
    asyncio.run(Misbehaving(sys.argv[2], entries).serve(sys.argv[1]))
