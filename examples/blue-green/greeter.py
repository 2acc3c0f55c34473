import os

from nylon import NylonPlugin

VERSION = os.environ.get("VERSION", "v1")

plugin = NylonPlugin()


@plugin.phase_handler("greet")
def greet(phase):
    @phase.request_filter
    def remember(ctx):
        ctx.state["began with"] = VERSION
        ctx.next()

    @phase.response_filter
    def sign(ctx):
        # Both are the same for every request: no request is ever served by two versions.
        ctx.response.set_header("x-served-by", f"{ctx.state['began with']} {VERSION}")
