"""Entries that write their response while it is on its way.

`?size` is what they write, in pieces of 10,000 bytes. Those that may have to wait say `inline=False`.
"""

import asyncio
from typing import Any

from entries.bodies import content
from entries.origin import tell, wait_at_gate
from entries.plugin import plugin
from nylon import StreamClosed

PIECE = 10_000
written: dict[str, int] = {}
"""How much the handlers that never end have written, by key."""


def pieces(ctx: Any) -> list[bytes]:
    body = content(int(ctx.request.query))
    return [body[at : at + PIECE] for at in range(0, len(body), PIECE)]


@plugin.request_filter("stream-blocking", inline=False)
def stream_blocking(ctx: Any) -> None:
    with ctx.response.set_status(201).set_header("x-mode", "blocking").stream() as stream:
        for piece in pieces(ctx):
            stream.write(piece)


@plugin.request_filter("stream-awaited", inline=False)
async def stream_awaited(ctx: Any) -> None:
    async with ctx.response.set_status(201).set_header("x-mode", "awaited").stream() as stream:
        for piece in pieces(ctx):
            await stream.write(piece)


@plugin.request_filter("stream-at-once", inline=False)
async def stream_at_once(ctx: Any) -> None:
    stream = ctx.response.stream()
    await stream.write(content(int(ctx.request.query)))
    await stream.end()


@plugin.request_filter("stream-small")
def stream_small(ctx: Any) -> None:
    ctx.response.set_header("content-length", "1").body_text("what the stream takes the place of")
    stream = ctx.response.stream()
    stream.write("caf\u00e9 ")
    stream.write(bytearray(b"au lait"))
    stream.end()


@plugin.request_filter("stream-inline-large", inline=True)
def stream_inline_large(ctx: Any) -> None:
    with ctx.response.stream() as stream:
        for _ in range(300):
            stream.write(bytes(PIECE))


@plugin.request_filter("stream-at-gate", inline=False)
def stream_at_gate(ctx: Any) -> None:
    with ctx.response.stream() as stream:
        stream.write("before")
        wait_at_gate(ctx)
        stream.write("after")


@plugin.request_filter("stream-raise", inline=False)
async def stream_raise(ctx: Any) -> None:
    stream = ctx.response.stream()
    await stream.write("good")
    await asyncio.to_thread(wait_at_gate, ctx)
    raise ValueError("in the middle")


@plugin.request_filter("stream-raise-at-once", inline=False)
def stream_raise_at_once(ctx: Any) -> None:
    with ctx.response.stream():
        raise ValueError("before the first byte")


@plugin.request_filter("stream-unended", inline=False)
def stream_unended(ctx: Any) -> None:
    ctx.response.stream().write("all that there is")


@plugin.request_filter("stream-idle", inline=False)
async def stream_idle(ctx: Any) -> None:
    stream = ctx.response.stream()
    await stream.write("good")
    await asyncio.sleep(30)


@plugin.phase_handler("stream-misused")
def stream_misused(phase: Any) -> None:
    @phase.request_filter(inline=False)
    def handler(ctx: Any) -> None:
        refused = []

        def refuses(action: Any) -> None:
            try:
                action()
            except Exception as error:
                refused.append(type(error).__name__)

        with ctx.response.stream() as stream:
            refuses(ctx.next)
            refuses(ctx.end)
            refuses(ctx.response.stream)
            refuses(lambda: ctx.response.set_status(500))
            refuses(lambda: ctx.request.set_body(b""))
            stream.write(f"{ctx.response.status} {ctx.request.method}")
        refuses(lambda: stream.write("more"))
        tell(ctx, refused)

    @phase.response_filter
    def too_late(ctx: Any) -> None:
        try:
            ctx.response.stream()
        except Exception as error:
            ctx.response.set_header("x-too-late", type(error).__name__)


@plugin.phase_handler("stream-facts")
def stream_facts(phase: Any) -> None:
    @phase.request_filter(inline=False)
    async def handler(ctx: Any) -> None:
        ctx.state["from"] = "request_filter"
        async with ctx.response.stream() as stream:
            for piece in pieces(ctx):
                await stream.write(piece)

    @phase.response_filter
    def head(ctx: Any) -> None:
        ctx.response.set_header("x-state", ctx.state["from"])

    @phase.logging
    def log(ctx: Any) -> None:
        tell(ctx, [ctx.response.status, ctx.response.bytes, ctx.response.error, ctx.state["from"]])


@plugin.request_filter("stream-empty", inline=False)
def stream_empty(ctx: Any) -> None:
    """Where no body may follow: the first write says so."""
    ctx.response.set_status(int(ctx.request.query or 200))
    stream = ctx.response.stream()
    try:
        while True:
            stream.write(bytes(PIECE))
    except StreamClosed as closed:
        tell(ctx, str(closed))


@plugin.request_filter("stream-for-ever", inline=False)
def stream_for_ever(ctx: Any) -> None:
    key = ctx.params["rest"]
    try:
        with ctx.response.stream() as stream:
            while True:
                written[key] = written.get(key, 0) + PIECE
                stream.write(bytes(PIECE))
    except StreamClosed as closed:
        tell(ctx, [type(closed).__name__, written.pop(key)])
        raise


@plugin.request_filter("stream-for-ever-awaited", inline=False)
async def stream_for_ever_awaited(ctx: Any) -> None:
    key = ctx.params["rest"]
    try:
        async with ctx.response.stream() as stream:
            while True:
                written[key] = written.get(key, 0) + PIECE
                await stream.write(bytes(PIECE))
    except StreamClosed as closed:
        await asyncio.to_thread(tell, ctx, [type(closed).__name__, written.pop(key)])
        raise


@plugin.request_filter("stream-progress")
def stream_progress(ctx: Any) -> None:
    ctx.response.body_json(written.get(ctx.params["rest"], 0))
    ctx.end()
