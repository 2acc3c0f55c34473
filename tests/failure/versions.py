"""Two versions of one plugin on workers, and answers that tell which of them served a request in every phase."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.traffic import Answer
from support.client import Address, fetch
from support.configs import Config, gateway_config, route

from nylon import Gateway, NylonPlugin
from nylon.testing.fixtures import StartWorker


def plugin_of(version: str, logged: list[tuple[int, str]]) -> NylonPlugin:
    """Every phase leaves its version: in the headers, in the body, in `logged`."""
    plugin = NylonPlugin()

    @plugin.request_filter("short")
    async def request(ctx: Any) -> None:
        ctx.state["number"] = ctx.params["number"]
        ctx.request.headers["x-checked"] = version
        ctx.next()

    @plugin.response_filter("short")
    def response(ctx: Any) -> None:
        ctx.response.set_header("x-version", version).set_header("x-number", ctx.state["number"])

    @plugin.response_body_filter("short")
    async def body(ctx: Any) -> None:
        ctx.response.body_raw(ctx.response.read_body() + f" signed {version}".encode())

    @plugin.logging("short")
    async def log(ctx: Any) -> None:
        logged.append((int(ctx.state["number"]), version))

    @plugin.phase_handler("closure")
    def closure(phase: Any) -> None:
        kept: dict[str, str] = {}

        @phase.request_filter
        async def request(ctx: Any) -> None:
            kept["number"] = ctx.params["number"]
            ctx.request.headers["x-checked"] = version
            ctx.next()

        @phase.response_filter
        def response(ctx: Any) -> None:
            ctx.response.set_header("x-version", version).set_header("x-number", kept["number"])

        @phase.response_body_filter
        async def body(ctx: Any) -> None:
            ctx.response.body_raw(ctx.response.read_body() + f" signed {version}".encode())

        @phase.logging
        def log(ctx: Any) -> None:
            logged.append((int(kept["number"]), version))

    return plugin


def version_of(answer: Answer) -> str | None:
    """The version that served this request in all phases; None if it is not a right answer of one version."""
    version = answer.headers.get("x-version", "")
    right = f"origin {answer.number} checked {version} signed {version}"
    is_right = answer.status == 200 and answer.headers.get("x-number") == str(answer.number)
    return version if is_right and answer.body == right else None


class Versions:
    """A configuration's file, the gateway that runs it, and the workers of two versions."""

    def __init__(self, path: Path, origin: Address, nats: str, start: StartWorker) -> None:
        self.path = path
        self.logged: list[tuple[int, str]] = []
        self._origin = origin
        self.nats = nats
        self._start = start

    def write(self, *, messaging_options: Config | None = None, **plugin: object) -> None:
        """The file, with these keys of the plugin and of its connection."""
        paths = [
            route(f"/{entry}/{{number}}", middleware=[{"plugin": "p", "entry": entry}])
            for entry in ("short", "closure")
        ]
        config: Config = gateway_config(
            self._origin,
            paths,
            messaging=[{"name": "nats", "servers": [self.nats], **(messaging_options or {})}],
            plugins=[{"name": "p", "messaging": "nats", **plugin}],
        )
        self.path.write_text(json.dumps(config))

    def gateway(self, **plugin: object) -> Gateway:
        """A gateway from the file."""
        self.write(**plugin)
        return Gateway.from_file(self.path)

    def worker(self, group: str, version: str) -> Any:
        """A worker of this version in this group."""
        return self._start(plugin_of(version, self.logged), group, servers=(self.nats,))


def address(gateway: Gateway) -> Address:
    host, port = gateway.urls[0].removeprefix("http://").split(":")
    return host, int(port)


def ask(gateway: Gateway, count: int, path: str = "/short") -> Counter[str]:
    """How many of so many requests each version has served, or with which status they failed."""
    found: Counter[str] = Counter()
    for number in range(count):
        answer = fetch(address(gateway), "GET", f"{path}/{number}")
        found[(answer.header("x-version") or "?") if answer.status == 200 else str(answer.status)] += 1
    return found
