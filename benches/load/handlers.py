"""The plugin that the Nylon rows run, in the gateway and on a worker: it reads the path and one header.

`handlers.py URL GROUP` serves it as a NATS worker.
"""

import sys

from nylon import NatsPlugin, NylonPlugin


def check(ctx):
    if ctx.request.path != "/open" and ctx.request.headers.get("x-api-key") != "k123":
        ctx.response.set_status(401)
        return ctx.end()
    ctx.next()


async def check_async(ctx):
    check(ctx)


def registered(plugin: NylonPlugin) -> NylonPlugin:
    plugin.request_filter("check")(check)
    plugin.request_filter("check_async")(check_async)
    return plugin


plugin = registered(NylonPlugin())

if __name__ == "__main__":
    registered(NatsPlugin(sys.argv[1], sys.argv[2])).run()
