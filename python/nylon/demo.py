"""`nylon demo`: all of Nylon on one screen, with nothing to install or configure.

It starts what a real deployment has (a NATS server, worker processes, an origin, a gateway), on free ports, with
one plugin served from two places, and shows what to try. With `--check` it tries that itself, over real HTTP,
so that the demo is also the quickest answer to "does it work on this machine?".
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from nylon import _core, demo_plugin
from nylon.embedded import NatsServer
from nylon.gateway import Gateway
from nylon.worker_group import WorkerGroup

__all__ = ["Demo"]

GROUP = "demo"
WORKERS = 2
KEY = "demo"
MANY = 64
"""Requests after which a worker that took none is a fault: by chance that is one in 2**63."""
REQUEST_TIMEOUT = 10.0


class Origin:
    """The upstream server: answers any GET with what reached it, as JSON, and counts."""

    def __init__(self) -> None:
        self.requests = 0
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                origin.requests += 1
                seen = {"hello": "from the origin", "path": self.path, "x-user": self.headers.get("x-user")}
                body = json.dumps(seen).encode() + b"\n"
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the demo's output is its own."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="demo-origin", args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True)
class Try:
    """A request worth trying, and what must come back."""

    path: str
    why: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)

    def curl(self, url: str) -> str:
        """The request as a command line."""
        headers = "".join(f"-H {shlex.quote(f'{name}: {value}')} " for name, value in self.headers.items())
        return f"curl -i {headers}{url}{self.path}"


TRIES = (
    Try("/local/hello", "no key: the plugin in the gateway's process refuses", 401),
    Try("/local/hello", "the key: it lets you through to the origin", 200, {"x-api-key": KEY}),
    Try("/nats/hello", "the same plugin, on one of the two workers", 200, {"x-api-key": KEY}),
)


def config(nats_url: str, origin_port: int) -> dict[str, Any]:
    """The gateway's configuration: the same plugin twice, in process and behind NATS."""
    payload = {"key": KEY}
    return {
        "http": ["127.0.0.1:0"],
        "messaging": [{"name": "nats", "type": "nats", "servers": [nats_url]}],
        "plugins": [
            {"name": "local", "type": "python", "module": "nylon.demo_plugin:plugin"},
            {"name": "remote", "type": "messaging", "messaging": "nats", "group": GROUP},
        ],
        "services": [
            {
                "name": "origin",
                "service_type": "http",
                "endpoints": [{"ip": "127.0.0.1", "port": origin_port}],
            }
        ],
        "routes": [
            {
                "name": "demo",
                "route": {"type": "host", "value": "*"},
                "paths": [
                    {
                        "path": f"/{where}/{{*rest}}",
                        "service": {"name": "origin"},
                        "middleware": [{"plugin": plugin, "entry": "auth", "payload": payload}],
                    }
                    for where, plugin in (("local", "local"), ("nats", "remote"))
                ],
            }
        ],
    }


class Demo:
    """All of it, running. A context manager: what it started is gone when the block ends, however it ends."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        print(
            f"Nylon {_core.version}: one plugin source, in the gateway's process and on workers\n", flush=True
        )
        with contextlib.ExitStack() as stack:
            self.nats = stack.enter_context(NatsServer())
            line("NATS server", self.nats.url, self.nats.pid)
            self.origin = stack.enter_context(Origin())
            line("origin", f"http://127.0.0.1:{self.origin.port}", os.getpid())
            self.workers = stack.enter_context(
                WorkerGroup("nylon.demo_plugin:plugin", [self.nats.url], GROUP, workers=WORKERS)
            )
            for number, pid in sorted(self.workers.pids.items()):
                line(f"worker {number}", f"group {GROUP}", pid)
            self.gateway = stack.enter_context(Gateway(config(self.nats.url, self.origin.port)))
            self.url = self.gateway.urls[0]
            line("gateway", self.url, os.getpid())
            self._stack = stack.pop_all()
        print(f"\nThe plugin: {demo_plugin.__file__}\n\nTry:\n")
        for one in TRIES:
            print(f"  # {one.why}\n  {one.curl(self.url)}\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def check(self) -> int:
        """Do what it says to try, and a little more, and print what came back.

        Returns 0 if everything was as it should be, else 1.
        """
        wrong: list[str] = []
        for one in TRIES:
            print(one.curl(self.url))
            status, headers, body = self._request(one)
            shown = {name: headers[name] for name in ("www-authenticate", "x-checked-by") if name in headers}
            print(f"  {status} {shown} {body.decode(errors='replace').strip()}")
            wrong += problems(one, status, headers, body, self._pids(one))
        print(f"{MANY} requests to /nats/")
        answered = self._spread(wrong)
        print(f"  answered by {', '.join(f'{who} ({count})' for who, count in sorted(answered.items()))}")
        if set(answered) != {f"pid {pid}" for pid in self.workers.pids.values()}:
            wrong.append("not every worker took part")
        passed = sum(one.status == 200 for one in TRIES) + MANY
        if self.origin.requests != passed:
            wrong.append(
                f"the origin got {self.origin.requests} requests, of which {passed} were let through"
            )
        for text in wrong:
            print(f"WRONG: {text}")
        print("\nsomething is wrong" if wrong else "\nall as it should be", flush=True)
        return 1 if wrong else 0

    def _request(self, one: Try) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=REQUEST_TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", one.path, headers=one.headers)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, response.read()

    def _pids(self, one: Try) -> set[int]:
        """The processes that may have run the plugin."""
        return {os.getpid()} if one.path.startswith("/local/") else set(self.workers.pids.values())

    def _spread(self, wrong: list[str]) -> dict[str, int]:
        """Who answered each of many requests to the workers."""
        answered: dict[str, int] = {}
        failed: list[list[str]] = []
        one = TRIES[-1]
        for _ in range(MANY):
            status, headers, body = self._request(one)
            if found := problems(one, status, headers, body, self._pids(one)):
                failed.append(found)
            who = headers.get("x-checked-by", "nobody")
            answered[who] = answered.get(who, 0) + 1
        if failed:
            wrong.append(f"{len(failed)} of {MANY} requests failed; the first: {'; '.join(failed[0])}")
        return answered


def line(what: str, where: str, pid: int) -> None:
    """One line of what was started."""
    print(f"  {what:<12} {where:<28} pid {pid}", flush=True)


def problems(one: Try, status: int, headers: dict[str, str], body: bytes, pids: set[int]) -> list[str]:
    """What is wrong with an answer, as texts."""
    wrong = []
    if status != one.status:
        wrong.append(f"{one.path}: status {status}, not {one.status}")
    if headers.get("x-checked-by") not in {f"pid {pid}" for pid in pids}:
        wrong.append(
            f"{one.path}: the plugin ran in {headers.get('x-checked-by')}, not in one of {sorted(pids)}"
        )
    try:
        answer = json.loads(body)
    except ValueError:
        return [*wrong, f"{one.path}: the body is no JSON: {body[:100]!r}"]
    expected = {"error": "unauthorized"} if one.status == 401 else {"x-user": "42", "path": one.path}
    if not expected.items() <= answer.items():
        wrong.append(f"{one.path}: the body is {answer}, without {expected}")
    return wrong
