"""What a plugin that cannot be loaded takes down: everything, or with `on_load_error: isolate` only what is its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reload_site import address
from support.client import fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin

from nylon import ConfigError, Gateway, NylonError, PluginError

GOOD = """
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.request_filter("stamp")
def stamp(ctx):
    ctx.request.headers["x-stamp"] = "yes"
    ctx.next()
"""


def config(origin: Origin, file: Path, good: Path, **more: object) -> Config:
    """One plugin that may be broken and one that is not, each in front of the origin, and a route with neither."""
    paths = [
        route("/bad", middleware=[{"plugin": "bad", "entry": "stamp"}]),
        route("/tolerant", middleware=[{"plugin": "bad", "entry": "stamp", "per_phase": TOLERANT}]),
        route("/answer", "answer"),
        route("/good", middleware=[{"plugin": "good", "entry": "stamp"}]),
        route("/{*rest}"),
    ]
    plugins = [{"name": "bad", "file": str(file), **more}, {"name": "good", "file": str(good)}]
    services = [{"name": "answer", "service_type": "plugin", "plugin": {"name": "bad", "entry": "answer"}}]
    return gateway_config(origin.address, paths, plugins=plugins, services=services)


TOLERANT = {"request_filter": {"on_error": "continue"}}


def python_with_a_syntax_error(folder: Path) -> Path:
    (folder / "bad.py").write_text("def (:\n")
    return folder / "bad.py"


def python_that_does_not_initialize(folder: Path) -> Path:
    (folder / "bad.py").write_text(
        GOOD + "\n@plugin.initialize\ndef no(config):\n    raise OSError('no disk')\n"
    )
    return folder / "bad.py"


def python_that_is_missing(folder: Path) -> Path:
    return folder / "bad.py"


BROKEN: list[tuple[Callable[[Path], Path], str]] = [
    (python_with_a_syntax_error, "SyntaxError"),
    (python_that_does_not_initialize, "no disk"),
    (python_that_is_missing, "bad.py"),
]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(GOOD)
    return tmp_path / "good.py"


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


@pytest.mark.parametrize(("broken", "says"), BROKEN)
def test_by_default_nothing_starts(
    origin: Origin, tmp_path: Path, good: Path, broken: Callable[[Path], Path], says: str
) -> None:
    with pytest.raises(NylonError, match=says):
        Gateway(config(origin, broken(tmp_path), good)).start()


@pytest.mark.parametrize(("broken", "says"), BROKEN)
def test_isolated_plugin_fails_closed_and_the_others_serve(
    origin: Origin, tmp_path: Path, good: Path, broken: Callable[[Path], Path], says: str
) -> None:
    with Gateway(config(origin, broken(tmp_path), good, on_load_error="isolate")) as gateway:
        for path in ("/bad", "/answer"):
            answer = fetch(address(gateway), "GET", path)
            assert answer.status == 503, path
            assert says.encode() not in answer.body
        assert fetch(address(gateway), "GET", "/tolerant").status == 200
        assert fetch(address(gateway), "GET", "/good").status == 200
        assert fetch(address(gateway), "GET", "/other").status == 200
        [bad, other] = gateway.status()["plugins"]
        assert (bad["name"], bad["ready"], other["ready"]) == ("bad", False, True)
        assert "could not be loaded" in bad["reason"]
        assert says in bad["reason"]


def test_reload_that_mends_an_isolated_plugin_opens_its_routes(
    origin: Origin, tmp_path: Path, good: Path
) -> None:
    file = python_with_a_syntax_error(tmp_path)
    with Gateway(config(origin, file, good, on_load_error="isolate")) as gateway:
        assert fetch(address(gateway), "GET", "/bad").status == 503
        [warning] = gateway.reload().warnings
        assert "plugin `bad`" in warning
        assert "SyntaxError" in warning
        answer = '\n@plugin.request_filter("answer")\ndef answer(ctx):\n    ctx.end()\n'
        file.write_text(GOOD + answer)
        done = gateway.reload()
        assert (done.started, done.kept, done.warnings) == (["bad"], ["good"], [])
        assert fetch(address(gateway), "GET", "/bad").status == 200
        file.write_text("def (:\n")
        assert gateway.reload().started == ["bad"]
        assert fetch(address(gateway), "GET", "/bad").status == 503
        assert fetch(address(gateway), "GET", "/good").status == 200


def test_isolation_of_load_errors_hides_no_mistake_of_the_configuration(
    origin: Origin, tmp_path: Path, good: Path
) -> None:
    (tmp_path / "bad.py").write_text(GOOD)
    with pytest.raises(ConfigError, match="answer"):
        # It loads, and lacks an entry that a service names.
        Gateway(config(origin, tmp_path / "bad.py", good, on_load_error="isolate")).start()
    with pytest.raises(PluginError, match="SyntaxError"):
        Gateway(config(origin, python_with_a_syntax_error(tmp_path), good, on_load_error="fail")).start()
