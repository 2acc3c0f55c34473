"""A worker in a process of its own that can be stopped, and its record of what it began (stalling_worker.py)."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from requester import Requester, call_frame
from support.processes import Process

HERE = Path(__file__).parent


class Stalling:
    """The worker in a process of its own, and its record of what began."""

    def __init__(self, broker, folder, group, transport):
        self.log = folder / "began"
        self.log.touch()
        script = [sys.executable, HERE / "stalling_worker.py", broker.url, group, self.log, transport]
        self.process = Process(script, cwd=HERE)

    @property
    def began(self):
        return self.log.read_text().splitlines()

    def open(self):
        self.log.with_suffix(".open").touch()


@contextlib.asynccontextmanager
async def stalling(broker, folder, group, transport):
    worker = Stalling(broker, folder, group, transport)
    with worker.process:
        async with await Requester.connect(broker.url, group) as gateway:
            await gateway.until_served("step")
            yield gateway, worker
            worker.open()
            worker.process.signal(signal.SIGCONT)
            await asyncio.to_thread(worker.process.stop)


def numbered(entry, number, **change):
    frame = call_frame(entry, **change)
    frame["q"] = {"m": "GET", "p": f"/{number}", "h": []}
    return frame
