"""Native plugins in Go under reloads: their libraries stay in the process, so no more of them come than have to.

The gateways run in processes of their own, which end with the Go runtimes in them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.client import Address, fetch
from support.configs import Config, gateway_config, route
from support.golang import go
from support.native import build_directory, run_compiler
from support.processes import NYLON, Process
from support.waiting import eventually

from nylon import GatewayError
from nylon.control import ask

MODULE = Path(__file__).parent / "native" / "go"


def library(version: str) -> Path:
    """The plugin, of this version; built once per run."""
    path = build_directory() / f"go-{version}.so"
    if not path.exists():
        flags = ("-buildmode=c-shared", "-ldflags", f"-X main.version={version}")
        run_compiler([go(), "build", *flags, "-o", path, "."], cwd=MODULE)
    return path


class Site:
    """A folder with a configuration, and the process that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: Process | None = None

    def install(self, version: str, name: str = "app.so") -> None:
        """Another file takes the library's name."""
        shutil.copy(library(version), self.folder / "new")
        (self.folder / "new").replace(self.folder / name)

    def write(self, *plugins: Config) -> None:
        """A configuration with these plugins, each of which answers under its name."""
        services = [
            {"name": one["name"], "service_type": "plugin", "plugin": {"name": one["name"], "entry": "say"}}
            for one in plugins
        ]
        paths = [route(f"/{one['name']}", one["name"]) for one in plugins]
        config = gateway_config(("127.0.0.1", 9), paths, plugins=list(plugins), services=services)
        text = json.dumps({**config, "control": "nylon.sock"}, indent=1)
        (self.folder / "nylon.yaml").write_text(text)

    @contextmanager
    def running(self) -> Iterator[Process]:
        """`nylon run` with it."""
        environment = {"VERSIONED_RECORD": str(self.folder / "record")}
        command = [NYLON, "run", "-c", "nylon.yaml"]
        with Process(command, cwd=self.folder, environment=environment) as process:
            self._process = process
            eventually(
                lambda: (self.folder / "nylon.sock").exists() or not process.running, "the gateway's socket"
            )
            eventually(lambda: "listening on" in process.log or not process.running, "a gateway that listens")
            assert process.running, process.log
            yield process

    def ask(self, command: str) -> Any:
        """What the gateway answers to `nylon reload` or `nylon status`."""
        return ask(self.folder / "nylon.sock", command, timeout=30)

    def said(self, name: str = "app") -> str:
        """The answer of a plugin."""
        (listener,) = self.ask("status")["listeners"]
        host, port = listener.removeprefix("http://").rsplit(":", 1)
        target: Address = (host, int(port))
        answer = fetch(target, "GET", f"/{name}")
        assert answer.status == 200, answer
        return answer.body.decode()

    @property
    def runtimes(self) -> int:
        """The Go libraries in the process."""
        assert self._process is not None
        maps = Path(f"/proc/{self._process.pid}/maps").read_text().splitlines()
        return len({line.split()[4] for line in maps if re.search(r"/memfd:\w+\.so", line)})

    @property
    def record(self) -> list[str]:
        """What the plugin's `initialize` and `shutdown` wrote down."""
        return [line.strip() for line in (self.folder / "record").read_text().splitlines()]


APP = {"name": "app", "type": "ffi", "file": "app.so"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.install("v1")
    return site


def test_go_library_with_another_config_is_initialized_again_and_loaded_once(site: Site) -> None:
    site.write({**APP, "config": {"n": 1}})
    with site.running():
        assert site.said() == 'v1 0 {"n":1}'
        site.write({**APP, "config": {"n": 2}})
        assert site.ask("reload")["started"] == ["app"]
        assert site.said() == 'v1 1 {"n":2}'
        # The plan that was replaced ends, and the library goes on.
        eventually(lambda: site.ask("status")["retiring"] == 0, "the end of the plan before")
        assert site.said() == 'v1 2 {"n":2}'
        assert site.runtimes == 1
        shown = output(site, "status")
        assert "plugin app (native): ready" in shown
        assert "  ABI version 1, sessions open: 0" in shown
    assert site.record == ['initialize v1 {"n":1}', 'initialize v1 {"n":2}', 'shutdown v1 {"n":2}']


def test_go_library_gets_its_configuration_back_where_the_reload_is_refused(site: Site) -> None:
    site.write({**APP, "config": {"n": 1}})
    with site.running():
        (site.folder / "broken.so").write_text("no library\n")
        site.write({**APP, "config": {"n": 2}}, {"name": "broken", "file": "broken.so"})
        with pytest.raises(GatewayError, match="it is no shared library"):
            site.ask("reload")
        assert site.said() == 'v1 0 {"n":1}'
    assert site.record == [
        'initialize v1 {"n":1}',
        'initialize v1 {"n":2}',
        'initialize v1 {"n":1}',
        'shutdown v1 {"n":1}',
    ]


def test_changed_go_library_comes_beside_the_old_one_and_each_at_most_once(site: Site) -> None:
    site.write(APP)
    with site.running():
        assert site.said() == "v1 0 "
        site.install("v2")
        (warning,) = site.ask("reload")["warnings"]
        assert "cannot be unloaded" in warning
        assert "isolation: process" in warning
        assert site.said() == "v2 0 "
        eventually(lambda: "shutdown v1" in site.record, "the old library's shutdown")
        for version, count in (("v1", 1), ("v2", 1), ("v1", 2)):
            site.install(version)
            assert site.ask("reload")["started"] == ["app"]
            assert site.said() == f"{version} {count} "
            eventually(lambda: site.ask("status")["retiring"] == 0, "the end of the plan before")
        assert site.runtimes == 2


def test_two_plugins_in_go_are_warned_of_by_name_and_serve(site: Site) -> None:
    site.install("v2", "other.so")
    site.write(APP, {"name": "other", "file": "other.so"})
    with site.running() as gateway:
        assert "plugin `other` is written in Go, as `app` is" in gateway.log
        assert "isolation: process" in gateway.log
        assert (site.said(), site.said("other")) == ("v1 0 ", "v2 0 ")
    done = output(site, "check")
    assert "warning: nylon.yaml:" in done
    assert "plugin `other` is written in Go, as `app` is" in done


def output(site: Site, command: str) -> str:
    """What a command says."""
    done = subprocess.run(
        [NYLON, command, "-c", "nylon.yaml"], cwd=site.folder, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done
    return done.stdout + done.stderr
