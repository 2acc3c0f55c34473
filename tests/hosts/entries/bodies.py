"""Entries that filter response bodies."""

import hashlib
from typing import Any

from entries.origin import tell
from entries.plugin import plugin


@plugin.response_body_filter("whole")
def whole(ctx: Any) -> None:
    ctx.response.body_raw(ctx.response.read_body().upper() + b"!").set_header("x-whole", "1")


@plugin.response_body_filter("whole-untouched")
def whole_untouched(ctx: Any) -> None:
    ctx.response.read_body()


@plugin.response_body_filter("whole-emptied")
def whole_emptied(ctx: Any) -> None:
    ctx.response.body_raw(b"")


@plugin.response_body_filter("by-chunk", stream=True)
def by_chunk(ctx: Any) -> None:
    ctx.chunk = ctx.chunk.upper() + (b"!" if ctx.end_of_stream else b"")


@plugin.phase_handler("by-chunk-counting")
def by_chunk_counting(phase: Any) -> None:
    chunks: list[int] = []

    @phase.response_body_filter(stream=True)
    async def body(ctx: Any) -> None:
        chunks.append(len(ctx.chunk))
        if ctx.end_of_stream:
            tell(ctx, chunks)


@plugin.response_body_filter("by-chunk-raise", stream=True)
def by_chunk_raise(ctx: Any) -> None:
    if b"bad" in ctx.chunk:
        raise ValueError("a bad chunk")


@plugin.response_body_filter("by-chunk-swallow", stream=True)
def by_chunk_swallow(ctx: Any) -> None:
    ctx.chunk = b""


@plugin.response_filter("touch")
def touch(ctx: Any) -> None:
    ctx.response.set_header("x-touched", "1")


def content(size: int) -> bytes:
    """Bytes that are nowhere like their neighbours, so that a part in the wrong place shows.

    With j = size + i, byte i is (j mod 251) xor (j mod 241) xor (j mod 239): one line in each language.
    """
    mixed = 0
    for period in (251, 241, 239):
        start = size % period
        cycle = bytes(range(period)) * ((start + size) // period + 1)
        mixed ^= int.from_bytes(cycle[start : start + size])
    return mixed.to_bytes(size)


@plugin.request_filter("mirror-body", body=True)
def mirror_body(ctx: Any) -> None:
    ctx.request.set_body(ctx.request.body()[::-1])
    ctx.next()


@plugin.request_filter("mirror-body-awaited", inline=False)
async def mirror_body_awaited(ctx: Any) -> None:
    ctx.request.set_body((await ctx.request.read())[::-1])
    ctx.next()


@plugin.request_filter("answer-content")
def answer_content(ctx: Any) -> None:
    ctx.response.body_raw(content(int(ctx.request.query)))
    ctx.end()


@plugin.response_filter("digest-answer")
def digest_answer(ctx: Any) -> None:
    ctx.response.set_header("x-seen", hashlib.sha256(ctx.response.read_body()).hexdigest())


@plugin.response_body_filter("mirror-answer")
def mirror_answer(ctx: Any) -> None:
    ctx.response.body_raw(ctx.response.read_body()[::-1])


@plugin.response_body_filter("last-chunk-content", stream=True)
def last_chunk_content(ctx: Any) -> None:
    ctx.chunk = content(int(ctx.request.query)) if ctx.end_of_stream else b""
