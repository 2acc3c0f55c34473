"""Plugins and configurations that are wrong are errors at start that name the place, never an open route."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.configs import Config, gateway_config, route
from support.origin import Origin
from support.processes import NYLON

from nylon import Gateway
from nylon.errors import ConfigError, NylonError, PluginError

GOOD = """
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.request_filter("stamp")
def stamp(ctx):
    ctx.next()
"""

BAD = {
    # name: (source, attribute, what the error must say beside the file, its line)
    "syntax-error": ("x = 1\ndef broken(:\n", "plugin", "SyntaxError", 2),
    "import-that-fails": ("x = 1\n\nimport no_such_module_here\n", "plugin", "no_such_module_here", 3),
    "raise": (GOOD + "\nraise ValueError('no good')\n", "plugin", "no good", 10),
    "exit": (GOOD + "\nraise SystemExit(3)\n", "plugin", "SystemExit", 10),
    "no-such-attribute": (GOOD, "plugn", "plugn", None),
    "wrong-attribute": (GOOD + "\nthing = 7\n", "thing", "int", None),
    "setup-that-raises": (
        GOOD + "\n@plugin.phase_handler('bad')\ndef bad(phase):\n    raise ValueError('in setup')\n",
        "plugin",
        "in setup",
        12,
    ),
    "initialize-that-raises": (
        GOOD + "\n@plugin.initialize\ndef start(config):\n    raise ValueError('no start')\n",
        "plugin",
        "no start",
        12,
    ),
    "async-initialize-that-raises": (
        GOOD + "\n@plugin.initialize\nasync def start(config):\n    raise ValueError('no start')\n",
        "plugin",
        "no start",
        12,
    ),
    "entry-twice": (
        GOOD + "\n@plugin.phase_handler('stamp')\ndef again(phase):\n    pass\n",
        "plugin",
        "registered twice",
        10,
    ),
    "entry-without-a-handler": (
        GOOD + "\n@plugin.phase_handler('empty')\ndef empty(phase):\n    pass\n",
        "plugin",
        "registers no handler",
        None,
    ),
    "generator": (
        GOOD + "\n@plugin.request_filter('gen')\ndef gen(ctx):\n    yield\n",
        "plugin",
        "generator",
        10,
    ),
    "handler-without-an-argument": (
        GOOD + "\n@plugin.request_filter('none')\ndef none():\n    pass\n",
        "plugin",
        "one argument",
        10,
    ),
}


def config_with(origin: Origin, plugin: Config, entry: str = "stamp") -> Config:
    paths = [route("/{*rest}", middleware=[{"plugin": "p", "entry": entry}])]
    return gateway_config(origin.address, paths, plugins=[{"name": "p", **plugin}])


@pytest.mark.parametrize("name", BAD)
def test_a_plugin_that_cannot_be_loaded_names_file_and_line(
    origin: Origin, tmp_path: Path, name: str
) -> None:
    source, attribute, text, line = BAD[name]
    file = tmp_path / "broken_plugin.py"
    file.write_text(source)
    with pytest.raises(PluginError) as caught:
        Gateway(config_with(origin, {"file": f"{file}:{attribute}"})).start()
    said = str(caught.value)
    assert text in said
    assert "broken_plugin.py" in said
    if line is not None:
        assert f"broken_plugin.py:{line}" in said
    assert "Traceback" not in said


def test_a_plugin_file_that_is_missing_is_an_error_at_its_place(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(NylonError) as caught:
        Gateway(config_with(origin, {"file": str(tmp_path / "nowhere.py")})).start()
    assert "nowhere.py" in str(caught.value)


def test_an_entry_that_the_plugin_lacks_is_an_error_that_names_those_it_has(
    origin: Origin, tmp_path: Path
) -> None:
    file = tmp_path / "good_plugin.py"
    file.write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        Gateway(config_with(origin, {"file": str(file)}, entry="stmap")).start()
    said = str(caught.value)
    assert "stmap" in said
    assert "stamp" in said


def mistakes(origin: Origin) -> dict[str, tuple[Config, str]]:
    good = gateway_config(origin.address)
    middleware = [{"plugin": "nobody", "entry": "x"}]
    group = [{"group": "securty"}]
    return {
        "key": ({**good, "rotues": good["routes"]}, "rotues"),
        "plugin": (gateway_config(origin.address, [route("/{*rest}", middleware=middleware)]), "nobody"),
        "group": (
            gateway_config(
                origin.address, [route("/{*rest}", middleware=group)], middleware_groups={"security": []}
            ),
            "securty",
        ),
        "service": (gateway_config(origin.address, [route("/{*rest}", "orign")]), "orign"),
        "middleware-key": (
            gateway_config(origin.address, [route("/{*rest}", midleware=middleware)]),
            "midleware",
        ),
        "policy": (
            gateway_config(
                origin.address,
                plugins=[{"name": "p", "module": "x", "per_phase": {"request_filter": {"on_error": "pass"}}}],
            ),
            "pass",
        ),
    }


@pytest.mark.parametrize("name", ["key", "plugin", "group", "service", "middleware-key", "policy"])
def test_a_misspelt_name_is_an_error_never_an_open_route(origin: Origin, name: str) -> None:
    config, text = mistakes(origin)[name]
    with pytest.raises(ConfigError) as caught:
        Gateway(config).start()
    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["syntax-error", "no-such-attribute", "missing", "misspelt"])
def test_the_command_exits_1_without_a_traceback_of_ours(origin: Origin, tmp_path: Path, name: str) -> None:
    file = tmp_path / "broken_plugin.py"
    attribute = ""
    if name in BAD:
        source, attribute, *_ = BAD[name]
        file.write_text(source)
        attribute = f":{attribute}"
    if name == "misspelt":
        file.write_text(GOOD)
    config = config_with(
        origin, {"file": f"{file}{attribute}"}, entry="stmap" if name == "misspelt" else "stamp"
    )
    config_file = tmp_path / "nylon.yaml"
    config_file.write_text(json.dumps(config))
    done = subprocess.run([NYLON, "run", "-c", config_file], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr + done.stdout
    assert ("nylon.yaml" if name == "misspelt" else "broken_plugin.py") in done.stderr
