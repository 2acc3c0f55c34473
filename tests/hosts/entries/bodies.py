"""Entries that filter response bodies."""

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
