"""The worker that knows nothing of Nylon, writing down what it begins: `foreign_recording.py URL GROUP LOG`."""

import asyncio
import os
import sys
from pathlib import Path

from support.foreign_worker import Call, Entry, Worker

url, group, log = sys.argv[1:]
out = os.open(log, os.O_WRONLY | os.O_APPEND)
gate = Path(log).with_suffix(".open")
REQUEST = 1


async def step(call: Call) -> str:
    os.write(out, f"{call.frame['q']['p']} {call.frame['a']}\n".encode())
    return "next"


async def held(call: Call) -> str:
    await step(call)
    while not gate.exists():  # noqa: ASYNC110  # a file has no event
        await asyncio.sleep(0.002)
    return "next"


entries = {"step": Entry({REQUEST: step}), "held": Entry({REQUEST: held})}
asyncio.run(Worker(group, entries).serve(url))
