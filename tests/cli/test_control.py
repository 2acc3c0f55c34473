"""`nylon reload` and `nylon status`: a gateway that runs is asked through its control socket."""

import contextlib
import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

PLUGIN = """
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.request_filter("say")
def say(ctx):
    ctx.response.body_text("one")
    ctx.end()
"""
CONFIG = """
http: ["127.0.0.1:0"]
control: nylon.sock
plugins:
  - {name: p, file: app.py}
services:
  - {name: said, service_type: plugin, plugin: {name: p, entry: say}}
  - {name: app, service_type: http, endpoints: [{ip: 127.0.0.1, port: 9}, {unix: app.sock}]}
routes:
  - name: r
    route: {type: host, value: "*"}
    paths: [{path: /say, service: {name: said}}]
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(PLUGIN)
    (tmp_path / "nylon.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def gateway(app, start):
    running = start("nylon", "run", "-c", "nylon.yaml")
    running.wait_for("listening on")
    return running


def test_reload_switches_and_says_what_it_did(app, gateway, nylon):
    (app / "app.py").write_text(PLUGIN.replace("one", "two"))
    done = nylon("reload", "-c", "nylon.yaml")
    assert (done.code, done.out) == (0, "reloaded, generation 2\n  started: p\n  ended: p\n")
    done = nylon("reload", "--json", NYLON_CONFIG="nylon.yaml")
    assert json.loads(done.out) == {
        "generation": 3,
        "started": [],
        "kept": ["p"],
        "ended": [],
        "warnings": [],
    }
    gateway.wait_for("reloaded, generation 3")


def test_reload_of_a_wrong_file_exits_with_1_and_every_error(app, gateway, nylon):
    (app / "nylon.yaml").write_text(CONFIG.replace("routes:", "rutes:") + "limits: {max: 1}\n")
    done = nylon("reload", "-c", "nylon.yaml")
    assert (done.code, done.out) == (1, "")
    assert "unknown key `rutes`" in done.err and "unknown key `max`" in done.err
    assert "nylon.yaml:9:1" in done.err and "did you mean `routes`?" in done.err
    assert json.loads(nylon("status", "--control", "nylon.sock", "--json").out)["generation"] == 1


def test_reload_of_a_file_that_is_no_yaml_says_so_without_the_gateway(app, gateway, nylon):
    (app / "nylon.yaml").write_text(CONFIG + "  x: [\n")
    done = nylon("reload", "-c", "nylon.yaml")
    assert done.code == 1 and "error: nylon.yaml:" in done.err and "no gateway was asked" in done.err
    done = nylon("reload", "--control", "nylon.sock")
    assert done.code == 1 and "nylon.yaml:" in done.err


def test_reload_waits_for_a_new_group_and_force_does_not(app, gateway, nylon):
    far = "  - {name: far, messaging: m, group: g}\n"
    broker = 'messaging: [{name: m, servers: ["nats://127.0.0.1:9"]}]\n'
    (app / "nylon.yaml").write_text(CONFIG.replace("services:", far + "services:") + broker)
    done = nylon("reload", "-c", "nylon.yaml", "--wait", "0.1")
    assert done.code == 1 and "plugin `far`: messaging" in done.err and "is not connected" in done.err
    done = nylon("reload", "-c", "nylon.yaml", "--wait", "0.1", "--force")
    assert done.code == 0 and "warning: switched without waiting any longer: plugin `far`" in done.err
    shown = nylon("status", "-c", "nylon.yaml").out
    assert "plugin p (python): ready" in shown and "plugin far (remote): not ready: messaging" in shown


def test_status_shows_what_runs_for_people_and_for_programs(app, gateway, nylon):
    shown = nylon("status", "-c", "nylon.yaml")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].startswith("nylon 0") and f"process {gateway.process.pid}" in lines[0]
    assert f"configuration: {app / 'nylon.yaml'}, generation 1 (0 reloads, 0 refused)" in lines
    assert "plugin p (python): ready" in lines
    at = lines.index("service app")
    unix = f"unix:{app / 'app.sock'}"
    assert lines[at + 1].split() == ["127.0.0.1:9", "healthy", "0", "in", "flight"]
    assert lines[at + 2] == f"  {unix}  healthy     0 in flight"
    nylon("reload", "-c", "nylon.yaml")
    (app / "app.py").write_text("def (")
    assert nylon("reload", "-c", "nylon.yaml").code == 1
    status = json.loads(nylon("status", "-c", "nylon.yaml", "--json").out)
    assert status["pid"] == gateway.process.pid and status["generation"] == 2 and status["retiring"] == 0
    assert status["reloads"]["done"] == status["reloads"]["refused"] == 1
    assert "app.py:1" in status["reloads"]["last_refusal"]["reason"]
    assert status["plugins"] == [{"name": "p", "kind": "python", "ready": True, "reason": None}]
    shown = nylon("status", "-c", "nylon.yaml").out
    assert "(1 reloads, 1 refused)" in shown and "last refused reload" in shown


def test_socket_is_for_its_owner_and_goes_with_the_gateway(app, gateway):
    path = app / "nylon.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0
    assert not path.exists()


def test_gateway_that_does_not_run_is_one_clear_line(app, nylon):
    done = nylon("status", "-c", "nylon.yaml")
    assert done.code == 1
    assert (
        done.err
        == f"nylon: no gateway answers at {app / 'nylon.sock'}: none runs, or its `control:` is another\n"
    )


def test_configuration_without_a_control_socket_says_what_to_do(app, nylon):
    (app / "nylon.yaml").write_text(CONFIG.replace("control: nylon.sock\n", ""))
    done = nylon("reload", "-c", "nylon.yaml")
    assert done.code == 1 and "names no control socket: add `control: nylon.sock`" in done.err
    assert nylon("reload").code == 2


def test_socket_left_behind_is_replaced_and_a_living_one_is_not(app, start, nylon):
    path = app / "nylon.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    first = start("nylon", "run", "-c", "nylon.yaml")
    first.wait_for("listening on")
    second = start("nylon", "run", "-c", "nylon.yaml")
    assert second.wait() == 1
    assert f"cannot make the control socket {path}: another gateway answers there" in second.output
    assert nylon("status", "-c", "nylon.yaml").code == 0
    first.process.kill()
    first.wait()
    path.unlink()
    path.write_text("precious")
    third = start("nylon", "run", "-c", "nylon.yaml")
    assert third.wait() == 1 and "something else is there" in third.output
    assert path.read_text() == "precious"


def test_reload_may_move_the_control_socket(app, gateway, nylon):
    (app / "nylon.yaml").write_text(CONFIG.replace("nylon.sock", "other.sock"))
    assert nylon("reload", "-c", "nylon.yaml").code == 1  # the file already names the new one
    assert nylon("reload", "--control", "nylon.sock").code == 0
    assert not (app / "nylon.sock").exists()
    assert nylon("status", "-c", "nylon.yaml").code == 0


NONSENSE = [
    b"",
    b"\n",
    b"{}\n",
    b"[1]\n",
    b"not json\n",
    b'{"command": "stop"}\n',
    b'{"command": ["x"]}\n',
    b'{"command": "reload", "force": 1}\n',
    b'{"command": "reload", "wait": 1e400}\n',
    b"x" * 100_000,
    b"\xff\xfe\n",
]


def test_nonsense_on_the_socket_changes_nothing(app, gateway, nylon):
    for question in NONSENSE:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.connect(str(app / "nylon.sock"))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not hear all of it
                client.sendall(question)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda client=client: client.recv(65536), b""))
                assert answer == b"" or "error" in json.loads(answer), question
    status = json.loads(nylon("status", "-c", "nylon.yaml", "--json").out)
    assert (status["generation"], status["reloads"]["done"]) == (1, 0)
    assert "Traceback" not in gateway.output


def test_clients_that_say_nothing_do_not_keep_others_from_asking(app, gateway, nylon):
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(4)]
    for one in silent:
        one.connect(os.fspath(app / "nylon.sock"))
    assert nylon("status", "-c", "nylon.yaml").code == 0
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0
    for one in silent:
        one.close()
