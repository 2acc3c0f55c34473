"""Switches from one version of a plugin to the next and back under load, and looks at every answer.

It starts what the README starts by hand, with the same commands: an origin, a NATS server, the gateway, the workers of
both versions. Then it edits the configuration and reloads, as a person would, while clients keep asking.
"""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
CLIENTS = 4
SECONDS = 2.0  # of load for each version


def start(stack, *command, cwd=HERE, **environment):
    """One more process, ended at the end."""
    program = Path(sys.executable).with_name(command[0])
    words = [str(program) if program.exists() else command[0], *command[1:]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=cwd, env={**os.environ, **environment}, **quiet)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def await_port(port):
    """Until somebody listens there."""
    for _ in range(400):
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), 1).close()
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")


def await_answer():
    """Until a request is served: the gateway has found a worker."""
    for _ in range(400):
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
        connection.request("GET", "/hello.txt")
        if connection.getresponse().status == 200:
            return connection.close()
        connection.close()
        time.sleep(0.05)
    raise SystemExit("the gateway does not answer")


class Load:
    """Clients that ask again and again, and note which version has served them."""

    def __init__(self):
        self.served = Counter()
        self.wrong = []
        self.first = {}  # version → when its first answer came
        self._stop = threading.Event()
        self._clients = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
        while not self._stop.is_set():
            try:
                connection.request("GET", "/hello.txt")
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                connection.close()
                continue
            versions = set((response.getheader("x-served-by") or "").split())
            if response.status != 200 or body != b"hello from the origin\n" or len(versions) != 1:
                self.wrong.append(f"{response.status} {versions}")
                continue
            version = versions.pop()
            self.first.setdefault(version, time.monotonic())
            self.served[version] += 1
            time.sleep(0.002)
        connection.close()

    def __enter__(self):
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for client in self._clients:
            client.join()


def switch(config, group):
    """Name another group in the file, and reload: all that there is to do."""
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(f"    group: {group}\n" if "group:" in line else line for line in lines))
    nylon = Path(sys.executable).with_name("nylon")
    subprocess.run([nylon, "reload", "-c", config], check=True, stdout=subprocess.DEVNULL)


def main():
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = Path(shutil.copy(HERE / "nylon.yaml", folder))
        start(stack, "python", "-m", "http.server", "9000", "--bind", "127.0.0.1", "--directory", "site")
        start(stack, "nats-server", "-a", "127.0.0.1", "-p", "4222")
        await_port(9000)
        await_port(4222)
        workers = {
            version: start(stack, "nylon", "worker", "greeter.py:plugin", "--nats", "nats://127.0.0.1:4222",
                           "--group", f"greeter_{version}", VERSION=version)
            for version in ("v1", "v2")
        }  # fmt: skip
        start(stack, "nylon", "run", "-c", str(config), cwd=folder)
        await_port(8080)
        await_answer()
        with Load() as load:
            time.sleep(SECONDS)
            asked = time.monotonic()
            switch(config, "greeter_v2")
            time.sleep(SECONDS)
            workers["v1"].terminate()  # nobody needs them any more: they drain, and are gone
            drained = workers["v1"].wait(30) == 0
            time.sleep(SECONDS / 2)
        took = load.first.get("v2", float("inf")) - asked
        print(f"{load.served['v1']} requests served by v1, then {load.served['v2']} by v2")
        print(f"the first answer of v2 came {took * 1000:.0f} ms after the reload was asked for")
        for wrong in load.wrong[:5]:
            print(f"wrong: {wrong}")
        print(f"{len(load.wrong)} errors")
    return 0 if drained and not load.wrong and load.served["v1"] and load.served["v2"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
