"""The plugin whose calls are measured: it reads two headers and sets one, in every way that a worker can run it.

`handlers.py URL GROUP CONCURRENCY WAIT_MS` serves it as a NATS worker. `wait` waits so long, and answers the request
itself.
"""

import asyncio
import sys

from nylon import NatsPlugin

VALUE = "0123456789abcdef0123456789abcdef0"
"""Makes the reply 117 bytes long, as the sample of benches/rust."""

arguments = sys.argv[1:]
WAIT = float(arguments[3]) / 1000
plugin = NatsPlugin(arguments[0], arguments[1], concurrency=int(arguments[2]))


def work(ctx):
    headers = ctx.request.headers
    if headers.get("authorization") is None or headers.get("x-request-id") is None:
        ctx.response.set_status(401)
        return ctx.end()
    headers["x-user"] = VALUE
    ctx.next()


@plugin.request_filter("inline", inline=True)
def inline(ctx):
    work(ctx)


@plugin.request_filter("pool", inline=False)
def pool(ctx):
    work(ctx)


@plugin.request_filter("async")
async def stepped(ctx):
    work(ctx)


@plugin.request_filter("awaits")
async def awaits(ctx):
    await asyncio.sleep(0)
    work(ctx)


@plugin.request_filter("wait")
async def wait(ctx):
    await asyncio.sleep(WAIT)
    ctx.response.body_text("done")
    ctx.end()


if __name__ == "__main__":
    plugin.run()
