"""A configuration and a native plugin beside it, to be changed under a gateway that runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from support.configs import Config, gateway_config, route
from support.native import c_library
from support.origin import Origin

from nylon import Gateway

SOURCE = Path(__file__).parent / "native" / "versioned.c"


class NativeSite:
    """A folder with a configuration and a library, and the gateway that runs it."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder = folder
        self.path = folder / "nylon.yaml"
        self.library = folder / "app.so"
        self._origin = origin
        os.environ["VERSIONED_RECORD"] = str(folder / "record")
        self.replace("v1")

    def build(self, version: str) -> Path:
        """The library of this version, somewhere else."""
        return c_library(SOURCE, sdk=True, flags=(f'-DVERSION="{version}"',))

    def replace(self, version: str) -> None:
        """As a build or a deployment does: another file takes the name."""
        shutil.copy(self.build(version), self.library.with_suffix(".new"))
        self.library.with_suffix(".new").replace(self.library)

    def overwrite(self, version: str) -> None:
        """As `cp` does: the same file gets other bytes."""
        with self.library.open("r+b") as file:
            file.truncate()
            file.write(self.build(version).read_bytes())

    @property
    def record(self) -> list[str]:
        """What the plugin's `initialize` and `shutdown` wrote down."""
        path = self.folder / "record"
        return path.read_text().splitlines() if path.exists() else []

    def config(self, plugin: Config | None = None, **sections: object) -> Config:
        """Three paths: one that the plugin answers, one where it decides in threads of its own, and all others."""
        paths = [
            route("/say", "said"),
            route("/later", middleware=[{"plugin": "app", "entry": "later"}]),
            route("/{*rest}", middleware=[{"plugin": "app", "entry": "stamp"}]),
        ]
        services = [
            {"name": "said", "service_type": "plugin", "plugin": {"name": "app", "entry": "say"}},
        ]
        plugins = [{"name": "app", "type": "ffi", "file": "app.so", **(plugin or {})}]
        return {**gateway_config(self._origin.address, paths, plugins=plugins, services=services), **sections}

    def write(self, config: Config) -> None:
        """The configuration's file (JSON is YAML)."""
        self.path.write_text(json.dumps(config, indent=1))

    def start(self, plugin: Config | None = None, **sections: object) -> Gateway:
        """A gateway from the file; the test stops it."""
        self.write(self.config(plugin, **sections))
        return Gateway.from_file(self.path)
