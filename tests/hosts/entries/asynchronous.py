"""Entries that use asyncio the way its users do, before and after their first await.

They wait, so they say `inline=False`: where the plugin runs with `execution: inline` they still get their loop.
"""

import asyncio
import contextvars
from typing import Any

from entries.origin import gate_url
from entries.plugin import plugin

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@plugin.request_filter("timeout-passes", inline=False)
async def timeout_passes(ctx: Any) -> None:
    async with asyncio.timeout(20):
        await asyncio.sleep(0)
    ctx.next()


@plugin.request_filter("timeout-strikes", inline=False)
async def timeout_strikes(ctx: Any) -> None:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        ctx.response.body_text("struck")
        ctx.end()


@plugin.request_filter("task-group", inline=False)
async def task_group(ctx: Any) -> None:
    async def one(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(5)]
    ctx.response.body_json([task.result() for task in tasks])
    ctx.end()


@plugin.request_filter("current-task", inline=False)
async def current_task(ctx: Any) -> None:
    before = asyncio.current_task()
    await asyncio.sleep(0)
    after = asyncio.current_task()
    ctx.response.body_json([before is not None, before is after])
    ctx.end()


@plugin.request_filter("aiohttp", inline=False)
async def with_aiohttp(ctx: Any) -> None:
    import aiohttp

    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
        session.get(f"http://{ctx.payload['origin']}/asked-by-aiohttp") as answer,
    ):
        ctx.response.body_json((await answer.json())["target"])
    ctx.end()


@plugin.request_filter("httpx", inline=False)
async def with_httpx(ctx: Any) -> None:
    import httpx

    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        answer = await client.get(f"http://{ctx.payload['origin']}/asked-by-httpx")
    ctx.response.body_json(answer.json()["target"])
    ctx.end()


@plugin.request_filter("gather-at-gate", inline=False)
async def gather_at_gate(ctx: Any) -> None:
    """Two waits at once, each of which holds a connection to the gate."""
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        await asyncio.gather(session.get(gate_url(ctx)), session.get(gate_url(ctx)))
    ctx.next()


@plugin.request_filter("context-variable", inline=False)
async def context_variable(ctx: Any) -> None:
    """What one request sets shows in no other."""
    before = variable.get()
    variable.set(ctx.request.path)
    await asyncio.sleep(0)
    ctx.response.body_json([before, variable.get() == ctx.request.path])
    ctx.end()


@plugin.request_filter("context-variable-blocking")
def context_variable_blocking(ctx: Any) -> None:
    before = variable.get()
    variable.set(ctx.request.path)
    ctx.response.body_json([before, variable.get() == ctx.request.path])
    ctx.end()


@plugin.phase_handler("mixed")
def mixed(phase: Any) -> None:
    """`def` and `async def` in one session."""
    seen: list[str] = []

    @phase.request_filter(inline=False)
    async def request(ctx: Any) -> None:
        await asyncio.sleep(0)
        seen.append("async")
        ctx.next()

    @phase.response_filter
    def response(ctx: Any) -> None:
        seen.append("def")
        ctx.response.set_header("x-seen", ",".join(seen))
