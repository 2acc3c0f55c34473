"""On workers: what is slow, or needs a database, or should scale by itself. `python tier.py` is a worker."""

import asyncio

from nylon import NatsPlugin

plugin = NatsPlugin("nats://127.0.0.1:4222", "tier_workers")


async def look_up(user):
    await asyncio.sleep(0.01)  # stands for a query
    return {"ada": "gold", "bob": "basic"}.get(user, "unknown")


@plugin.phase_handler("tier")
def tier(phase):
    found = None  # lives from the request to its response

    @phase.request_filter
    async def enrich(ctx):
        nonlocal found
        found = await look_up(ctx.request.headers["x-user"])
        ctx.request.headers["x-tier"] = found
        ctx.next()

    @phase.response_filter
    def show(ctx):
        ctx.response.set_header("x-tier", found)
        ctx.response.add_header("x-passed", "tier")


if __name__ == "__main__":
    plugin.run()
