"""What the command line says and how it exits, for commands that start nothing."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

MINIMAL = """
http: [127.0.0.1:0]
services:
  - {name: origin, service_type: http, endpoints: [{ip: 127.0.0.1, port: 9}]}
routes:
  - name: all
    route: {type: host, value: "*"}
    paths: [{path: "/{*path}", service: {name: origin}}]
"""
WITH_BROKER = """
messaging:
  - {name: nats, type: nats, servers: ["SERVER"]}
plugins:
  - {name: auth, type: messaging, messaging: nats, group: g}
"""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_help_names_every_command(nylon):
    shown = nylon("--help")
    assert shown.code == 0
    for command in ("run", "check", "schema", "worker", "demo"):
        assert f" {command} " in shown.out
    assert "--version" in shown.out
    assert nylon("-h").out == shown.out


def test_help_of_a_command_names_its_flags_and_their_variables(nylon):
    run = nylon("run", "--help").out
    assert "--config" in run and "NYLON_CONFIG" in run
    worker = nylon("worker", "--help").out
    for flag in ("--nats", "--group", "--workers", "--concurrency", "--execution", "--app-dir", "--check"):
        assert flag in worker
    for variable in ("NATS_SERVERS", "NATS_GROUP", "NYLON_WORKERS", "NYLON_CONCURRENCY"):
        assert variable in worker


def test_version_is_that_of_the_distribution(nylon):
    from importlib.metadata import version

    assert nylon("--version").out == f"nylon {version('nylon-gateway')}\n"


def test_installed_script_is_the_same_command(nylon):
    script = Path(sys.executable).with_name("nylon")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == nylon("--version").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Usage: nylon"),
        (("rnu",), "No such command 'rnu'"),
        (("run", "--colour"), "No such option: --colour"),
        (("run",), "NYLON_CONFIG"),
        (("check",), "NYLON_CONFIG"),
        (("worker",), "Missing argument"),
        (("worker", "app:plugin", "--workers", "0"), "--workers"),
        (("worker", "app:plugin", "--workers", "many"), "valid integer"),
        (("worker", "app:plugin", "--execution", "fork"), "fork"),
        (("--config", "x.yaml", "check"), "nylon check -c x.yaml"),
    ],
)
def test_usage_error_says_what_is_wrong_and_exits_with_2(nylon, arguments, said):
    result = nylon(*arguments)
    assert result.code == 2
    assert said in result.out + result.err


def test_file_before_a_command_is_not_silently_left_out(nylon):
    result = nylon("--config", "x.yaml", "check", NYLON_CONFIG="y.yaml")
    assert result.code == 2
    assert "nylon check -c x.yaml" in result.err


def test_check_of_a_good_file_exits_with_0(nylon, tmp_path):
    path = write(tmp_path / "good.yaml", MINIMAL)
    result = nylon("check", "-c", path)
    assert (result.code, result.out, result.err) == (0, f"{path}: ok\n", "")


def test_check_takes_the_file_from_the_environment(nylon, tmp_path):
    path = write(tmp_path / "good.yaml", MINIMAL)
    assert nylon("check", NYLON_CONFIG=path).out == f"{path}: ok\n"


def test_check_reports_every_error_with_its_place_and_exits_with_1(nylon, tmp_path):
    text = MINIMAL.replace("service_type: http", "service_typ: http").replace("name: all", "nam: all")
    path = write(tmp_path / "bad.yaml", text)
    result = nylon("check", "-c", path)
    assert result.code == 1
    assert f"error: {path}:4:20: " in result.err
    assert "did you mean `service_type`?" in result.err
    assert f"error: {path}:6:5: " in result.err
    assert "did you mean `name`?" in result.err
    assert result.err.splitlines()[-1].startswith(f"nylon: {path}: ")
    assert result.out == ""


def test_check_reports_a_misspelt_service_with_the_right_name(nylon, tmp_path):
    path = write(tmp_path / "bad.yaml", MINIMAL.replace("name: origin}}", "name: orign}}"))
    result = nylon("check", "-c", path)
    assert result.code == 1
    assert f"error: {path}:8:" in result.err
    assert "did you mean `origin`?" in result.err
    assert result.err.splitlines()[-1] == f"nylon: {path}: 1 error"


def test_check_of_a_missing_file_names_it(nylon, tmp_path):
    result = nylon("check", "-c", str(tmp_path / "none.yaml"))
    assert result.code == 1
    assert "none.yaml" in result.err and "No such file" in result.err


def test_check_warns_of_a_broker_that_does_not_answer(nylon, tmp_path):
    with socket.socket() as taken:  # bound, not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        server = f"nats://127.0.0.1:{taken.getsockname()[1]}"
        path = write(tmp_path / "nylon.yaml", MINIMAL + WITH_BROKER.replace("SERVER", server))
        result = nylon("check", "-c", path)
    assert result.code == 0
    assert f"warning: {path}:11:" in result.err
    assert server.removeprefix("nats://") in result.err


def test_password_of_a_broker_is_never_shown(nylon, tmp_path):
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        server = f"nats://ada:s3cret@127.0.0.1:{dead.getsockname()[1]}"
        path = write(tmp_path / "nylon.yaml", MINIMAL + WITH_BROKER.replace("SERVER", server))
        shown = nylon("check", "-c", path).err
    assert f"127.0.0.1:{server.rpartition(':')[2]}" in shown
    assert "s3cret" not in shown


def test_check_is_silent_about_a_broker_that_answers(nylon, tmp_path, nylon_nats):
    path = write(tmp_path / "nylon.yaml", MINIMAL + WITH_BROKER.replace("SERVER", nylon_nats.url))
    assert nylon("check", "-c", path).code == 0
    assert "broker" not in nylon("check", "-c", path).err


def test_schema_is_json_schema_of_the_configuration(nylon):
    result = nylon("schema")
    assert result.code == 0
    schema = json.loads(result.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    root = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    assert {"http", "messaging", "plugins", "services", "routes"} <= set(root["properties"])


def test_help_loads_no_broker_client_and_no_event_loop():
    script = (
        "import sys, nylon.cli; print(sorted({'nats', 'uvloop', 'watchfiles', 'msgpack'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"
