"""A worker whose handlers say that they run, and go on when they are told: by files in a folder.

python held.py NATS-URL NAME FOLDER
"""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

from nylon import NatsPlugin

logging.basicConfig(level="INFO")
URL, NAME, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])

plugin = NatsPlugin(URL, "g")


def say(what: str) -> None:
    (FOLDER / f"{what}.{NAME}").touch()


async def hold(ctx: Any) -> None:
    say(f"ran-{ctx.attempt}")
    while not (FOLDER / "go").exists():  # noqa: ASYNC110 (the test is another process)
        await asyncio.sleep(0.005)


@plugin.request_filter("held")
async def held(ctx: Any) -> None:
    await hold(ctx)
    ctx.response.body_json({"worker": NAME, "attempt": ctx.attempt})
    ctx.end()


@plugin.phase_handler("session")
def session(phase: Any) -> None:
    seen = []

    @phase.request_filter
    async def first(ctx: Any) -> None:
        say("began")
        seen.append(NAME)
        ctx.next()

    @phase.response_filter
    async def last(ctx: Any) -> None:
        ctx.response.headers["x-seen"] = seen[0]
        ctx.next()


@plugin.request_filter("logged")
async def logged(ctx: Any) -> None:
    ctx.next()


@plugin.logging("logged")
async def log(ctx: Any) -> None:
    say("logged")


if __name__ == "__main__":
    plugin.run()
