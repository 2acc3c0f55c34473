"""The plugin under chaos: what it answers proves which handlers ran, and it keeps a record of its own.

Each run of a handler is a line in a file of its process, written before it waits and again when it is done, by one
`write` each: what a killed process had begun is known. `CHAOS_RECORD` names the folder, `CHAOS_VERSION` what a reply
says of the code that made it, `CHAOS_WAIT` and `CHAOS_LEAK` how long a handler takes and what it leaves behind.
"""

import asyncio
import os
from pathlib import Path

from nylon import NylonPlugin

WAIT = float(os.environ.get("CHAOS_WAIT", "0.01"))
VERSION = os.environ.get("CHAOS_VERSION", "v1")
RECORD = os.open(
    Path(os.environ["CHAOS_RECORD"]) / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
)

LEAK = int(os.environ.get("CHAOS_LEAK", "0"))
"""Bytes that each run of a handler leaves behind."""
left_behind = []

plugin = NylonPlugin()


def note(word, ctx, number):
    line = f"{word} {ctx.phase} {number} {ctx.attempt} {os.getpid()} {VERSION}\n"
    os.write(RECORD, line.encode())


async def run(ctx, number, work):
    note("begun", ctx, number)
    left_behind.append(b"x" * LEAK)
    await asyncio.sleep(WAIT)
    work()
    note("done", ctx, number)


def decide(ctx, number):
    """Every fifth request is the plugin's own to answer."""
    if number % 5 == 0:
        ctx.response.set_status(403).set_header("x-version", VERSION).body_text(f"denied {number}")
        return ctx.end()
    ctx.request.headers["x-checked"] = str(number)
    ctx.next()


def mark(ctx, number, version):
    ctx.response.set_header("x-number", str(number)).set_header("x-version", f"{version} {VERSION}")


def sign(ctx, number):
    ctx.response.body_raw(ctx.response.read_body() + f" signed {number} {VERSION}".encode())


@plugin.request_filter("short")
async def short_request(ctx):
    number = int(ctx.params["number"])
    ctx.state["number"], ctx.state["version"] = number, VERSION
    await run(ctx, number, lambda: decide(ctx, number))


@plugin.response_filter("short")
async def short_response(ctx):
    number = ctx.state["number"]
    await run(ctx, number, lambda: mark(ctx, number, ctx.state["version"]))


@plugin.response_body_filter("short")
async def short_body(ctx):
    number = ctx.state["number"]
    await run(ctx, number, lambda: sign(ctx, number))


@plugin.logging("short")
async def short_logging(ctx):
    await run(ctx, ctx.state["number"], lambda: None)


@plugin.phase_handler("closure")
def closure(phase):
    kept = {}

    @phase.request_filter
    async def request(ctx):
        kept["number"] = int(ctx.params["number"])
        await run(ctx, kept["number"], lambda: decide(ctx, kept["number"]))

    @phase.response_filter
    async def response(ctx):
        await run(ctx, kept["number"], lambda: mark(ctx, kept["number"], VERSION))

    @phase.response_body_filter
    async def body(ctx):
        await run(ctx, kept["number"], lambda: sign(ctx, kept["number"]))

    @phase.logging
    async def logging(ctx):
        await run(ctx, kept["number"], lambda: None)
