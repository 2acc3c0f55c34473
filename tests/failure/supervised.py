"""`run_workers` in a process of its own, for tests that look at what it does with its workers."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time

import psutil
from requester import Requester

APP = """
import asyncio, os
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.request_filter("pid")
async def pid(ctx):
    ctx.request.headers["x-pid"] = str(os.getpid())
    ctx.next()

@plugin.request_filter("slow")
async def slow(ctx):
    await asyncio.sleep(0.5)
    ctx.next()

@plugin.request_filter("stuck")
def stuck(ctx):
    import time
    time.sleep(60)

@plugin.request_filter("dies")
def dies(ctx):
    os._exit(9)
"""

SUPERVISOR = """
import json, logging, sys
from nylon.workers import run_workers
logging.basicConfig(level="INFO", format="%(levelname)s supervisor | %(message)s")
arguments = json.loads(sys.argv[1])
if "recycling" in arguments:
    from nylon.recycling import Recycling
    arguments["recycling"] = Recycling(**arguments["recycling"])
sys.exit(run_workers(**arguments))
"""


class Supervised:
    """`run_workers` in a process of its own, with its log."""

    def __init__(self, tmp_path, plugin="app:plugin", **arguments):
        self.log_path = tmp_path / "log"
        self.log_file = self.log_path.open("wb")
        arguments = {"plugin": plugin, "app_dir": str(tmp_path), **arguments}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, json.dumps(arguments)],
            stderr=self.log_file,
            stdout=self.log_file,
            cwd=tmp_path,
        )

    @property
    def log(self):
        return self.log_path.read_text()

    def workers(self):
        """The worker processes that live now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def until(self, condition, patience=20.0):
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, self.log
            time.sleep(0.01)

    def until_serving(self, count):
        self.until(lambda: self.log.count("serving as worker") >= count)

    def wait(self):
        return self.process.wait(20)

    def end(self):
        children = self.workers()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self.log_file.close()


def ask(broker, *entries, group):
    async def main():
        async with await Requester.connect(broker.url, group) as gateway:
            return await asyncio.gather(*(gateway.call(entry, patience=10) for entry in entries))

    return asyncio.run(main())


def gone(processes):
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)
