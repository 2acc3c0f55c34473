"""Entries that decide, late, twice or not at all."""

from typing import Any

from entries.origin import tell
from entries.plugin import plugin
from nylon.errors import DecisionError


def passing(phase: Any) -> None:
    """Every phase says so, and goes on."""

    @phase.request_filter
    def request(ctx: Any) -> None:
        name = ctx.payload["name"]
        ctx.request.headers.add("x-order", name)
        ctx.next()

    @phase.response_filter
    def response(ctx: Any) -> None:
        ctx.response.add_header("x-order", ctx.payload["name"])
        ctx.next()

    @phase.response_body_filter
    def body(ctx: Any) -> None:
        ctx.response.body_raw(ctx.response.read_body() + f" {ctx.payload['name']}".encode())
        ctx.next()

    @phase.logging
    def log(ctx: Any) -> None:
        tell(ctx, ctx.payload["name"])
        ctx.next()


plugin.add_phase_handler("pass", passing)


@plugin.phase_handler("stop-in")
def stop_in(phase: Any) -> None:
    """Like `pass`, but the phase that the payload names ends."""

    def decide(ctx: Any, here: str) -> None:
        if ctx.payload["stop"] == here:
            ctx.end()
        else:
            ctx.next()

    @phase.request_filter
    def request(ctx: Any) -> None:
        ctx.response.set_status(403).body_text("stopped")
        decide(ctx, "request_filter")

    @phase.response_filter
    def response(ctx: Any) -> None:
        ctx.response.add_header("x-order", ctx.payload["name"])
        decide(ctx, "response_filter")

    @phase.response_body_filter
    def body(ctx: Any) -> None:
        ctx.response.body_raw(ctx.response.read_body() + f" {ctx.payload['name']}".encode())
        decide(ctx, "response_body_filter")

    @phase.logging
    def log(ctx: Any) -> None:
        tell(ctx, ctx.payload["name"])
        decide(ctx, "logging")


@plugin.request_filter("undecided")
def undecided(ctx: Any) -> None:
    ctx.request.headers["x-undecided"] = "1"


@plugin.request_filter("undecided-awaited")
async def undecided_awaited(ctx: Any) -> None:
    ctx.request.headers["x-undecided"] = "1"


@plugin.request_filter("end-then-next")
def end_then_next(ctx: Any) -> None:
    """The forgotten return: what `end` refused must not pass."""
    ctx.response.set_status(403)
    ctx.end()
    ctx.next()


@plugin.request_filter("end-then-next-caught")
def end_then_next_caught(ctx: Any) -> None:
    ctx.response.set_status(403).body_text("refused")
    ctx.end()
    try:
        ctx.next()
    except DecisionError as error:
        ctx.response.set_header("x-error", str(error))


@plugin.request_filter("next-twice-caught")
def next_twice_caught(ctx: Any) -> None:
    ctx.next()
    try:
        ctx.end()
    except DecisionError:
        ctx.request.headers["x-refused"] = "yes"


@plugin.request_filter("next-then-raise")
def next_then_raise(ctx: Any) -> None:
    ctx.next()
    raise RuntimeError("after the decision")


@plugin.request_filter("write-after-next")
def write_after_next(ctx: Any) -> None:
    ctx.next()
    ctx.request.headers["x-after"] = "1"


@plugin.request_filter("draft-then-next")
def draft_then_next(ctx: Any) -> None:
    ctx.response.set_status(500).set_header("x-draft", "1").body_text("draft")
    ctx.next()


@plugin.phase_handler("response-undecided")
def response_undecided(phase: Any) -> None:
    @phase.response_filter
    def response(ctx: Any) -> None:
        ctx.response.set_header("x-response", "1")

    @phase.response_body_filter
    def body(ctx: Any) -> None:
        ctx.response.set_header("x-body", "1")


@plugin.request_filter("serve")
def serve(ctx: Any) -> None:
    """For a `plugin` service: it answers as its payload says, or leaves the answer to nobody."""
    if ctx.payload.get("pass"):
        return ctx.next()
    ctx.response.set_status(299).body_json({"path": ctx.request.path, "payload": ctx.payload.get("name")})
    return ctx.end()
