"""What the tests of streams and of large bodies have workers run."""

import os
from typing import Any

from nylon import NylonPlugin, StreamClosed

PIECE = 10_000
plugin = NylonPlugin()
written: dict[str, int] = {}
"""How much the streams have written, by key."""
ended: dict[str, str] = {}
"""How the streams ended, by key."""


@plugin.request_filter("stream")
def stream(ctx: Any) -> None:
    """Writes `?size` bytes, of which each piece says how far it is."""
    key, size = ctx.params["key"], int(ctx.request.query)
    written[key] = 0
    try:
        with ctx.response.stream() as body:
            while written[key] < size:
                body.write(f"{written[key]:<{PIECE}}")
                written[key] += PIECE
        ended[key] = "whole"
    except StreamClosed:
        ended[key] = "closed"
        raise


@plugin.request_filter("status")
async def status(ctx: Any) -> None:
    key = ctx.params["key"]
    answer = {"pid": os.getpid(), "written": written.get(key, 0), "ended": ended.get(key)}
    ctx.response.body_json(answer)
    ctx.end()


@plugin.request_filter("answer")
def answer(ctx: Any) -> None:
    ctx.response.body_raw(bytes(int(ctx.request.query)))
    ctx.end()
