"""Entries that keep something from phase to phase."""

from typing import Any

from entries.origin import gate_url, tell
from entries.plugin import plugin


@plugin.phase_handler("closure")
def closure(phase: Any) -> None:
    """What a session's closures hold is its own, through all phases."""
    seen: list[str] = []

    @phase.request_filter
    def request(ctx: Any) -> None:
        seen.append(f"request {ctx.request.headers.get('x-who')}")
        ctx.next()

    @phase.response_filter
    def response(ctx: Any) -> None:
        seen.append("response")

    @phase.response_body_filter
    def body(ctx: Any) -> None:
        seen.append("body")
        ctx.response.body_json(seen)

    @phase.logging
    def log(ctx: Any) -> None:
        tell(ctx, seen)


@plugin.request_filter("state")
def state_request(ctx: Any) -> None:
    ctx.state["log"] = ["request"]
    ctx.state["kinds"] = {"none": None, "int": 2**40, "float": 0.5, "bytes": b"\x00\xff", "text": "caf\u00e9"}
    ctx.next()


@plugin.response_filter("state")
async def state_response(ctx: Any) -> None:
    ctx.state["log"].append("response")


@plugin.response_body_filter("state")
def state_body(ctx: Any) -> None:
    ctx.state["log"] += ["body"]
    kinds = ctx.state["kinds"]
    kinds["bytes"] = kinds["bytes"].hex()
    ctx.response.body_json({"log": ctx.state["log"], "kinds": kinds})


@plugin.logging("state")
def state_log(ctx: Any) -> None:
    tell(ctx, ctx.state["log"])


@plugin.phase_handler("state-in-setup")
def state_in_setup(phase: Any) -> None:
    @phase.request_filter
    def request(ctx: Any) -> None:
        ctx.state["n"] = 1
        ctx.next()

    @phase.response_filter
    def response(ctx: Any) -> None:
        ctx.response.set_header("x-state", str(ctx.state))


@plugin.request_filter("state-too-large")
def state_too_large(ctx: Any) -> None:
    ctx.state["much"] = "x" * 70_000
    ctx.next()


@plugin.request_filter("state-impossible")
def state_impossible(ctx: Any) -> None:
    ctx.state["object"] = object()
    ctx.next()


@plugin.logging("log-facts")
def log_facts(ctx: Any) -> None:
    response = ctx.response
    tell(
        ctx,
        {
            "status": response.status,
            "bytes": response.bytes,
            "duration": response.duration,
            "error": response.error,
            "method": ctx.request.method,
            "path": ctx.request.path,
            "header": response.headers.get("x-origin"),
            "request_id": ctx.request_id,
        },
    )


@plugin.logging("slow-log", inline=False)
async def slow_log(ctx: Any) -> None:
    import httpx

    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        await client.get(gate_url(ctx))
    tell(ctx, "logged")
