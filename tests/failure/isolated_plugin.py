"""A plugin that dies in every way it can, for processes of its own. Run in the gateway it would take that along."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from nylon import Context, NylonPlugin, PhaseHandler

plugin = NylonPlugin()

WAYS = {
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


@plugin.initialize
def begin(config: dict[str, Any] | None) -> None:
    config = config or {}
    if config.get("raise"):
        raise RuntimeError("the port is taken")
    if hangs := config.get("hang"):
        Path(hangs).touch()
        time.sleep(60)
    if how := config.get("die"):
        WAYS[how]()
    if record := config.get("record"):
        with Path(record).open("a") as file:
            file.write(f"{os.getpid()}\n")
    if (limit := config.get("starts")) and len(Path(record).read_text().splitlines()) > limit:
        WAYS["exit"]()


@plugin.shutdown
def end() -> None:
    time.sleep(0)


def tell(ctx: Context) -> None:
    ctx.response.body_json({"pid": os.getpid(), "attempt": ctx.attempt})
    ctx.end()


@plugin.request_filter("pid")
def pid(ctx: Context) -> None:
    tell(ctx)


@plugin.request_filter("die")
def die(ctx: Context) -> None:
    """Dies on each attempt up to `until`."""
    if ctx.attempt <= ctx.payload.get("until", 1):
        WAYS[ctx.payload["how"]]()
    tell(ctx)


@plugin.phase_handler("closure")
def closure(phase: PhaseHandler) -> None:
    """Keeps its process from its first phase for its second one, which dies where a header asks for it."""
    seen: list[int] = []

    @phase.request_filter
    def request(ctx: Context) -> None:
        if ctx.attempt <= int(ctx.request.headers.get("x-die-first", "0")):
            WAYS["kill"]()
        seen.append(os.getpid())
        ctx.next()

    @phase.response_filter
    def response(ctx: Context) -> None:
        if "x-die-later" in ctx.request.headers:
            WAYS["kill"]()
        assert seen == [os.getpid()]
        ctx.response.set_header("x-pid", str(seen[0]))


@plugin.request_filter("gather")
def gather(ctx: Context) -> None:
    """Answers once as many processes as the payload says are in here at the same time."""
    folder = Path(ctx.payload["folder"])
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < ctx.payload["processes"]:
        time.sleep(0.005)
    tell(ctx)


@plugin.request_filter("wait")
def wait(ctx: Context) -> None:
    """Waits until a file is there."""
    (path := Path(ctx.payload["folder"]) / "waiting").touch()
    while not path.with_name("go").exists():
        time.sleep(0.005)
    tell(ctx)


@plugin.request_filter("stop-answering")
def stop_answering(ctx: Context) -> None:
    """Freezes its process."""
    os.kill(os.getpid(), signal.SIGSTOP)
    tell(ctx)


@plugin.request_filter("digest")
def digest(ctx: Context) -> None:
    """What only a handler that saw this very request can answer."""
    ctx.response.body_text(hashlib.sha256(ctx.request.headers["x-number"].encode()).hexdigest())
    ctx.end()


@plugin.request_filter("mirror", body=True)
def mirror(ctx: Context) -> None:
    ctx.response.body_raw(ctx.request.body())
    ctx.end()


@plugin.request_filter("stream")
def stream(ctx: Context) -> None:
    """Dies in the middle of a stream."""
    stream = ctx.response.stream()
    stream.write(b"the beginning")
    time.sleep(0.2)  # so that it is on its way
    WAYS["kill"]()


@plugin.request_filter("inline", inline=True)
def inline(ctx: Context) -> None:
    """Keeps the process's one thread for ever."""
    if folder := ctx.payload.get("folder"):
        (Path(folder) / "inside").touch()
    while True:
        time.sleep(60)


@plugin.request_filter("linger")
async def linger(ctx: Context) -> None:
    """Waits to be cancelled, and says so."""
    folder = Path(ctx.payload["folder"])
    (folder / "begun").touch()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        (folder / "cancelled").touch()
        raise


@plugin.request_filter("leave-behind")
def leave_behind(ctx: Context) -> None:
    """Dies, and leaves a copy of itself that holds all its files open."""
    if ctx.attempt > 1:
        return tell(ctx)
    copy = os.fork()
    if copy == 0:
        time.sleep(60)
        os._exit(0)
    (Path(ctx.payload["folder"]) / "copy").write_text(str(copy))
    WAYS["kill"]()
