"""A plugin whose entries make gateway and worker say all that they can say to each other."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from nylon import NylonPlugin

plugin = NylonPlugin()


@plugin.request_filter("slow")
async def slow(ctx: Any) -> None:
    await asyncio.sleep(0.5)  # longer than the gateway waits before it asks after a call
    ctx.next()


@plugin.request_filter("hash", body=True)
def hash_body(ctx: Any) -> None:
    ctx.response.body_text(hashlib.sha256(ctx.request.body()).hexdigest())
    ctx.end()


@plugin.phase_handler("session")
def session(phase: Any) -> None:
    seen: list[str] = []

    @phase.request_filter
    def before(ctx: Any) -> None:
        seen.append(ctx.request.path)
        ctx.next()

    @phase.response_filter
    def after(ctx: Any) -> None:
        ctx.response.set_header("x-seen", ",".join(seen))
        ctx.next()

    @phase.logging
    def log(ctx: Any) -> None:
        print("logged", ctx.request.path, flush=True)
