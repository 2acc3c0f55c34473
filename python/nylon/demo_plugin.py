"""The plugin of `nylon demo`: this one source runs inside the gateway and on the workers."""

import os

from nylon import Context, NylonPlugin, PhaseHandler

plugin = NylonPlugin()


@plugin.phase_handler("auth")
def auth(phase: PhaseHandler) -> None:
    """Let callers through who know the key of the payload, and say in the answer which process did."""

    @phase.request_filter
    def check(ctx: Context) -> None:
        if ctx.request.headers.get("x-api-key") != ctx.payload["key"]:
            ctx.response.set_status(401).set_header("www-authenticate", "ApiKey")
            ctx.response.body_json({"error": "unauthorized"})
            return ctx.end()
        ctx.request.headers["x-user"] = "42"
        return ctx.next()

    @phase.response_filter
    def sign(ctx: Context) -> None:
        ctx.response.set_header("x-checked-by", f"pid {os.getpid()}")
