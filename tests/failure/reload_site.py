"""A configuration in a file and a plugin beside it, to be changed under a gateway that runs."""

from __future__ import annotations

import json
from pathlib import Path

from support.client import Address, fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin

from nylon import Gateway

PLUGIN = """
from nylon import NylonPlugin

plugin = NylonPlugin()
noted = []

@plugin.initialize
def begin(config):
    note("initialize")

@plugin.shutdown
def end():
    note("shutdown")

def note(what):
    with open(RECORD, "a") as record:
        record.write(f"{what} {VERSION}\\n")

@plugin.request_filter("say")
def say(ctx):
    ctx.response.body_text(f"{VERSION} {len(noted)}")
    noted.append(1)
    ctx.end()

@plugin.phase_handler("stamp")
def stamp(phase):
    @phase.request_filter
    def request(ctx):
        ctx.next()

    @phase.response_filter
    def response(ctx):
        ctx.response.set_header("x-version", VERSION)
"""


class Site:
    """A folder with a configuration and a plugin file, and the gateway that runs it."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder = folder
        self.path = folder / "nylon.yaml"
        self._origin = origin
        self.write_plugin("v1")

    def write_plugin(self, version: str) -> None:
        """The plugin's file, of this version."""
        head = f"VERSION, RECORD = {version!r}, {str(self.folder / 'record')!r}\n"
        (self.folder / "app.py").write_text(head + PLUGIN)

    @property
    def record(self) -> list[str]:
        """What the plugin's `initialize` and `shutdown` wrote down."""
        path = self.folder / "record"
        return path.read_text().splitlines() if path.exists() else []

    def config(self, **sections: object) -> Config:
        """Two paths of one plugin in a file: one that answers, one in front of the origin."""
        paths = [
            route("/say", "said"),
            route("/{*rest}", middleware=[{"plugin": "app", "entry": "stamp"}]),
        ]
        services = [
            {"name": "said", "service_type": "plugin", "plugin": {"name": "app", "entry": "say"}},
        ]
        plugins = [{"name": "app", "file": "app.py"}]
        return {**gateway_config(self._origin.address, paths, plugins=plugins, services=services), **sections}

    def write(self, config: Config) -> None:
        """The configuration's file (JSON is YAML)."""
        self.path.write_text(json.dumps(config, indent=1))

    def start(self, **sections: object) -> Gateway:
        """A gateway from the file; the test stops it."""
        self.write(self.config(**sections))
        return Gateway.from_file(self.path)


def address(gateway: Gateway, index: int = 0) -> Address:
    """Where one of its listeners is."""
    host, port = gateway.urls[index].removeprefix("http://").split(":")
    return host, int(port)


def said(gateway: Gateway) -> str:
    """The plugin's own answer: its version, and how many it has given before."""
    answer = fetch(address(gateway), "GET", "/say")
    assert answer.status == 200, answer
    return answer.body.decode()
