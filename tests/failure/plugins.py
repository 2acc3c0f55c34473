"""What the tests of this directory guard routes with."""

from typing import Any

from nylon import NylonPlugin

plugin = NylonPlugin()


@plugin.request_filter("stamp")
def stamp(ctx: Any) -> None:
    ctx.request.headers["x-stamp"] = "1"
    ctx.next()


@plugin.request_filter("deny")
def deny(ctx: Any) -> None:
    ctx.response.set_status(403).body_text("no")
    ctx.end()


@plugin.request_filter("deny-awaited")
async def deny_awaited(ctx: Any) -> None:
    ctx.response.set_status(403).body_text("no")
    ctx.end()
