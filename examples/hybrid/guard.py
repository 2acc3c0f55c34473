"""In the gateway's process: a quick decision that needs nothing but the request."""

from nylon import NylonPlugin

plugin = NylonPlugin()
keys = {}


@plugin.initialize
def load(config):
    keys.update(config["keys"])


@plugin.request_filter("key")
def check(ctx):
    user = keys.get(ctx.request.headers.get("x-api-key"))
    if user is None:
        ctx.response.set_status(401).body_json({"error": "unauthorized"})
        return ctx.end()
    # What follows, on this host or another, can rely on it: whatever the client sent is replaced.
    ctx.request.headers["x-user"] = user
    ctx.next()


@plugin.response_filter("key")
def sign(ctx):
    ctx.response.add_header("x-passed", "guard")
