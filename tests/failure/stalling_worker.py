"""A worker that writes down each call that it begins: `stalling_worker.py URL GROUP LOG TRANSPORT`.

It has one thread, so that a call can wait for it: until the file LOG.open is there.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from nylon import NatsPlugin

url, group, log, transport = sys.argv[1:]
plugin = NatsPlugin(url, group, threads=1, transport=transport, drain_timeout=2)
gate = Path(log).with_suffix(".open")
out = os.open(log, os.O_WRONLY | os.O_APPEND)


def begin(ctx):
    os.write(out, f"{ctx.request.path} {ctx.attempt}\n".encode())


@plugin.request_filter("step")
async def step(ctx):
    begin(ctx)
    ctx.next()


@plugin.request_filter("inline", inline=True)
def inline(ctx):
    begin(ctx)
    if ctx.request.query:
        time.sleep(float(ctx.request.query))
    ctx.next()


@plugin.request_filter("declared", body=True)
async def declared(ctx):
    begin(ctx)
    ctx.next()


@plugin.request_filter("awaits")
async def awaits(ctx):
    begin(ctx)
    await asyncio.sleep(0.01)
    ctx.next()


@plugin.request_filter("pool")
def pool(ctx):
    begin(ctx)
    if ctx.request.query:
        while not gate.exists():
            time.sleep(0.002)
    ctx.next()


if __name__ == "__main__":
    plugin.run()
