"""A gateway with one plugin in the test's own process: what the tests of `nylon.Gateway` start from."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from nylon import Context, Gateway, NylonPlugin


class EchoOrigin(ThreadingHTTPServer):
    """Answers each request with what it got, as JSON."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests = 0
        self.handling = 0
        self._lock = threading.Lock()

    def process_request_thread(self, *args: Any) -> None:
        with self._lock:
            self.handling += 1
        try:
            super().process_request_thread(*args)
        finally:
            with self._lock:
                self.handling -= 1


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests += 1  # type: ignore[attr-defined]
        fields = {name.lower(): value for name, value in self.headers.items()}
        out = json.dumps({"path": self.path, "headers": fields, "body": body.decode("latin-1")}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None: ...


def config(origin: EchoOrigin | None, plugin: Any, entries: dict[str, str], **more: Any) -> dict[str, Any]:
    """One route with a path for each entry; `plugin` is an object or the keys of one."""
    port = origin.server_port if origin is not None else 9
    described = {"plugin": plugin} if isinstance(plugin, NylonPlugin) else plugin
    return {
        "http": ["127.0.0.1:0"],
        "runtime": {"threads": 1, "grace_period_seconds": 2, "graceful_shutdown_timeout_seconds": 2},
        "plugins": [{"name": "p", **described, **more}],
        "services": [{"name": "o", "service_type": "http", "endpoints": [{"ip": "127.0.0.1", "port": port}]}],
        "routes": [
            {
                "route": {"type": "host", "value": "*"},
                "name": "r",
                "paths": [
                    {"path": path, "service": {"name": "o"}, "middleware": [{"plugin": "p", "entry": entry}]}
                    for path, entry in entries.items()
                ],
            }
        ],
    }


@contextmanager
def connected(gateway: Gateway) -> Iterator[http.client.HTTPConnection]:
    url = urlsplit(gateway.urls[0])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def get(gateway: Gateway, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON body of one request."""
    with connected(gateway) as connection:
        connection.request("GET" if body is None else "POST", path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.002)


def passing() -> NylonPlugin:
    plugin = NylonPlugin()
    plugin.request_filter("pool")(lambda ctx: ctx.next())
    plugin.request_filter("inline", inline=True)(lambda ctx: ctx.next())

    @plugin.request_filter("loop")
    async def loop(ctx: Context) -> None:
        ctx.next()

    return plugin


EVERY_WAY = {"/pool": "pool", "/inline": "inline", "/loop": "loop"}
