"""Entries that raise, hang, or come back when it is too late."""

import asyncio
import time
from typing import Any

from entries.origin import gate_url, tell, wait_at_gate
from entries.plugin import plugin
from nylon.errors import ContextClosed

SECRET = "s3cret-in-a-traceback"


@plugin.phase_handler("raise-in")
def raise_in(phase: Any) -> None:
    """In the phase that the payload names, changes what it can and raises; elsewhere it only says that it ran."""

    def raises(ctx: Any, here: str) -> bool:
        return bool(ctx.payload["raise"] == here)

    @phase.request_filter
    def request(ctx: Any) -> None:
        if raises(ctx, "request_filter"):
            ctx.request.method = "DELETE"
            ctx.request.path = "/changed"
            ctx.request.query = "changed"
            ctx.request.headers["x-changed"] = "1"
            ctx.request.set_body(b"changed")
            ctx.response.set_status(299).set_header("x-changed", "1").body_text("changed")
            ctx.state["changed"] = True
            raise ValueError(SECRET)
        ctx.next()

    @phase.response_filter
    def response(ctx: Any) -> None:
        if raises(ctx, "response_filter"):
            ctx.response.set_status(299).set_header("x-changed", "1").body_text("changed")
            ctx.state["changed"] = True
            raise ValueError(SECRET)
        ctx.response.add_header("x-order", "r")

    @phase.response_body_filter
    def body(ctx: Any) -> None:
        if raises(ctx, "response_body_filter"):
            ctx.response.set_status(299).set_header("x-changed", "1").body_text("changed")
            ctx.state["changed"] = True
            raise ValueError(SECRET)
        ctx.response.add_header("x-order", "b")

    @phase.logging
    def log(ctx: Any) -> None:
        tell(ctx, {"status": ctx.response.status, "error": ctx.response.error, "state": ctx.state})
        if raises(ctx, "logging"):
            raise ValueError(SECRET)


@plugin.request_filter("raise-awaited", inline=False)
async def raise_awaited(ctx: Any) -> None:
    ctx.request.headers["x-changed"] = "1"
    ctx.next()
    await asyncio.sleep(0)
    raise ValueError(SECRET)


@plugin.request_filter("raise-exit")
def raise_exit(ctx: Any) -> None:
    raise SystemExit(3)


@plugin.request_filter("raise-cancelled")
async def raise_cancelled(ctx: Any) -> None:
    raise asyncio.CancelledError


@plugin.phase_handler("raise-in-setup")
def raise_in_setup(phase: Any) -> None:
    """Runs well when the plugin is loaded, and never again."""
    loaded.append(phase)

    @phase.request_filter
    def request(ctx: Any) -> None:
        ctx.next()

    if len(loaded) > 1:
        raise ValueError(SECRET)


loaded: list[Any] = []


@plugin.phase_handler("hang-in")
def hang_in(phase: Any) -> None:
    """Changes what it can, then waits for ever in the phase that the payload names."""

    @phase.request_filter(inline=False)
    async def request(ctx: Any) -> None:
        ctx.next()
        if ctx.payload["hang"] == "request_filter":
            ctx.request.headers["x-changed"] = "1"
            await asyncio.Event().wait()

    @phase.response_filter(inline=False)
    async def response(ctx: Any) -> None:
        if ctx.payload["hang"] == "response_filter":
            ctx.response.set_header("x-changed", "1")
            await asyncio.Event().wait()

    @phase.response_body_filter(inline=False)
    async def body(ctx: Any) -> None:
        if ctx.payload["hang"] == "response_body_filter":
            ctx.response.set_header("x-changed", "1").body_text("changed")
            await asyncio.Event().wait()


@plugin.request_filter("block")
def block(ctx: Any) -> None:
    wait_at_gate(ctx)
    ctx.next()


@plugin.request_filter("block-awaited", inline=False)
async def block_awaited(ctx: Any) -> None:
    import httpx

    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        await client.get(gate_url(ctx))
    ctx.next()


@plugin.request_filter("late")
def late(ctx: Any) -> None:
    """Goes on after its time-out, until its context is closed; then nothing of it can be used any more."""
    payload, params = ctx.payload, ctx.params
    wait_at_gate(ctx)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            ctx.request.headers["x-late"] = "1"
            time.sleep(0.005)
        except ContextClosed:
            break
    closed = []
    for use in (
        lambda: ctx.next(),
        lambda: ctx.end(),
        lambda: ctx.request,
        lambda: ctx.response,
        lambda: ctx.payload,
        lambda: ctx.state,
        lambda: ctx.request_id,
    ):
        try:
            use()
        except ContextClosed:
            closed.append("closed")
    tell(Told(payload, params), closed)


@plugin.request_filter("late-next")
def late_next(ctx: Any) -> None:
    """Lets a request pass whose time is over."""
    told = Told(ctx.payload, ctx.params)
    wait_at_gate(ctx)
    try:
        ctx.next()
    finally:
        tell(told, "done")


class Told:
    """Stands in for a context that is closed."""

    def __init__(self, payload: Any, params: Any) -> None:
        self.payload = payload
        self.params = params


@plugin.phase_handler("keep-context")
def keep_context(phase: Any) -> None:
    """Uses what it kept from one phase in the next."""
    kept: list[Any] = []

    @phase.request_filter
    def request(ctx: Any) -> None:
        kept.extend([ctx, ctx.request, ctx.request.headers, ctx.response])
        ctx.next()

    @phase.response_filter
    def response(ctx: Any) -> None:
        old, request, headers, draft = kept
        closed = []
        for use in (
            lambda: old.next(),
            lambda: old.request,
            lambda: request.path,
            lambda: headers.get("host"),
            lambda: headers.add("x-a", "1"),
            lambda: draft.set_status(500),
        ):
            try:
                use()
            except ContextClosed:
                closed.append("closed")
        ctx.response.set_header("x-closed", ",".join(closed))


@plugin.request_filter("fine")
def fine(ctx: Any) -> None:
    ctx.next()


@plugin.request_filter("fine-awaited")
async def fine_awaited(ctx: Any) -> None:
    ctx.next()
