"""What a plugin that cannot be loaded takes down: everything, or with `on_load_error: isolate` only what is its own."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reload_site import address
from support.client import fetch
from support.configs import Config, gateway_config, route
from support.native import compiler, run_compiler
from support.origin import Origin
from support.processes import NYLON, GatewayProcess, Process
from support.waiting import eventually

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


def library(folder: Path, more: str, removed: str = "") -> Path:
    """A plugin with all that it must export, but for what is removed, and with more."""
    source = folder / "bad.c"
    source.write_text((LIBRARY.replace(removed, f"unused_{removed}") if removed else LIBRARY) + more)
    run_compiler([compiler(), "-shared", "-fPIC", "-o", folder / "bad.so", source])
    return folder / "bad.so"


LIBRARY = """
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>
void initialize(const char *config, int len) { (void)config; (void)len; }
bool register_session_stream(uint32_t sid, const char *entry, uint32_t len, void (*cb)(const void *)) { return false; }
void event_stream(const void *message) {}
void close_session_stream(uint32_t sid) {}
void plugin_free(const uint8_t *payload) {}
void shutdown(void) {}
"""


def library_that_lacks_a_symbol(folder: Path) -> Path:
    return library(folder, "", "event_stream")


def library_that_does_not_initialize(folder: Path) -> Path:
    return library(folder, "const char *nylon_entries(void) { return 0; }")


def library_of_another_version(folder: Path) -> Path:
    return library(folder, "uint32_t nylon_abi_version(void) { return 99; }")


def library_that_is_none(folder: Path) -> Path:
    (folder / "bad.so").write_text("text\n")
    return folder / "bad.so"


def library_that_is_missing(folder: Path) -> Path:
    return folder / "bad.so"


BROKEN: list[tuple[Callable[[Path], Path], str]] = [
    (python_with_a_syntax_error, "SyntaxError"),
    (python_that_does_not_initialize, "no disk"),
    (python_that_is_missing, "bad.py"),
    (library_that_lacks_a_symbol, "lacks the symbol `event_stream`"),
    (library_that_does_not_initialize, "could not initialize"),
    (library_of_another_version, "`nylon_abi_version` says 99"),
    (library_that_is_none, "it is no shared library"),
    (library_that_is_missing, "no such file"),
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


def test_reason_is_logged_once_however_many_requests_fail(origin: Origin, tmp_path: Path, good: Path) -> None:
    file = library_that_lacks_a_symbol(tmp_path)
    with GatewayProcess(config(origin, file, good, on_load_error="isolate")) as gateway:
        for _ in range(5):
            assert fetch(gateway.address, "GET", "/bad").status == 503
        assert gateway.log.count("plugin `bad` is not loaded") == 1
        assert f"`{file}`: it lacks the symbol `event_stream`" in gateway.log


@pytest.mark.parametrize(
    ("broken", "says"),
    [(library_that_lacks_a_symbol, "event_stream"), (python_with_a_syntax_error, "SyntaxError")],
)
def test_isolated_processes_that_cannot_load_their_plugin_fail_closed(
    origin: Origin, tmp_path: Path, good: Path, broken: Callable[[Path], Path], says: str
) -> None:
    more = {"isolation": "process", "on_load_error": "isolate"}
    with Gateway(config(origin, broken(tmp_path), good, **more)) as gateway:
        assert fetch(address(gateway), "GET", "/bad").status == 503
        assert fetch(address(gateway), "GET", "/good").status == 200
        assert says in gateway.status()["plugins"][0]["reason"]


def test_library_error_names_file_and_symbol_and_the_command_exits_with_1(
    origin: Origin, tmp_path: Path, good: Path
) -> None:
    file = library_that_lacks_a_symbol(tmp_path)
    path = tmp_path / "nylon.yaml"
    path.write_text(json.dumps(config(origin, file, good), indent=1))
    done = subprocess.run([NYLON, "run", "-c", path], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done
    assert re.search(r"nylon\.yaml:\d+:\d+: plugin `bad`: cannot load `", done.stderr), done.stderr
    assert f"`{file}`: it lacks the symbol `event_stream`" in done.stderr
    assert "Traceback" not in done.stderr


def thread_names(pid: int) -> list[str]:
    """What the threads of a process are called."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            names.append((task / "comm").read_text().strip())
    return names


def test_command_can_be_stopped_while_a_library_never_gets_ready(
    origin: Origin, tmp_path: Path, good: Path
) -> None:
    file = library(tmp_path, "const char *nylon_entries(void) { for (;;) pause(); }")
    path = tmp_path / "nylon.yaml"
    path.write_text(json.dumps(config(origin, file, good)))
    with Process([NYLON, "run", "-c", path], cwd=tmp_path) as process:
        eventually(lambda: "nylon-load" in thread_names(process.pid), "the library being loaded")
        # The first one waits for the start; the second ends the process at once.
        process.signal(signal.SIGINT)
        process.signal(signal.SIGTERM)
        assert process.wait() == 1
        assert "stopped at once" in process.log


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
