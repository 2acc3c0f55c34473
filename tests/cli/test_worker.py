"""`nylon worker`: serves over NATS, stops cleanly, and says what keeps it from serving."""

import os
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest

APP = """
import os
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.request_filter("who")
def who(ctx):
    if ctx.request.path == "/raise":
        raise RuntimeError("no such luck")
    ctx.response.body_text(str(os.getpid()))
    ctx.end()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def gateway_config(url: str, group: str) -> dict:
    return {
        "messaging": [{"name": "nats", "type": "nats", "servers": [url]}],
        "plugins": [{"name": "p", "messaging": "nats", "group": group}],
        "services": [{"name": "s", "service_type": "plugin", "plugin": {"name": "p", "entry": "who"}}],
        "routes": [
            {
                "name": "r",
                "route": {"type": "host", "value": "*"},
                "paths": [{"path": "/{*path}", "service": {"name": "s"}}],
            }
        ],
    }


def pids_answering(gateway, requests: int = 64) -> set[int]:
    import httpx

    with httpx.Client() as client:
        answers = [client.get(gateway.urls[0] + "/x") for _ in range(requests)]
    assert {answer.status_code for answer in answers} == {200}
    return {int(answer.text) for answer in answers}


def test_workers_answer_and_are_gone_after_a_signal(app, start, nylon_nats, nylon_gateway):
    arguments = ("--nats", nylon_nats.url, "--group", "cli_two", "--workers", "2")
    running = start("nylon", "worker", "app:plugin", *arguments)
    banner = running.wait_for("serving group cli_two")
    assert f"via {nylon_nats.url}: who: request_filter (app:plugin, 2 workers" in banner
    assert running.output.count("serving group") == 1
    children = {child.pid for child in psutil.Process(running.process.pid).children(recursive=True)}
    gateway = nylon_gateway(gateway_config(nylon_nats.url, "cli_two"))
    assert pids_answering(gateway) == children
    running.send(signal.SIGTERM)
    assert running.wait() == 0
    assert not any(psutil.pid_exists(pid) for pid in children)


def test_raise_is_the_clients_500_and_the_log_of_a_worker_that_lives_on(
    app, start, nylon_nats, nylon_gateway
):
    import httpx

    running = start("nylon", "worker", "app:plugin", "--nats", nylon_nats.url, "--group", "cli_raise")
    running.wait_for("serving group cli_raise")
    gateway = nylon_gateway(gateway_config(nylon_nats.url, "cli_raise"))
    pids = pids_answering(gateway, 1)
    answer = httpx.get(gateway.urls[0] + "/raise")
    assert answer.status_code == 500
    assert "luck" not in answer.text
    assert answer.json()["request_id"] in running.wait_for("request_filter handler raised RuntimeError")
    assert re.match(r".* worker 1 \[\d+\] \| ", running.wait_for("request_filter handler raised"))
    running.wait_for("Traceback (most recent call last)")
    running.wait_for("RuntimeError: no such luck")
    assert pids_answering(gateway, 1) == pids


def test_settings_may_come_from_the_environment_and_the_file_from_a_path(app, start, nylon_nats, tmp_path):
    env = {"NATS_SERVERS": nylon_nats.url, "NATS_GROUP": "cli_env", "NYLON_CONCURRENCY": "7"}
    running = start("nylon", "worker", str(app / "app.py"), cwd=Path("/"), **env)
    assert "concurrency 7" in running.wait_for("serving group cli_env")


def test_app_dir_is_where_the_plugin_is_imported_from(app, start, nylon_nats):
    arguments = ("--nats", nylon_nats.url, "--group", "cli_dir", "--app-dir", str(app))
    running = start("nylon", "worker", "app:plugin", *arguments, cwd=Path("/"))
    running.wait_for("serving group cli_dir")
    running.send(signal.SIGINT)
    assert running.wait() == 0


def test_workers_die_with_a_killed_supervisor(app, start, nylon_nats):
    running = start("nylon", "worker", "app:plugin", "--nats", nylon_nats.url, "--group", "cli_orphan")
    running.wait_for("serving group cli_orphan")
    [child] = psutil.Process(running.process.pid).children()
    running.send(signal.SIGKILL)
    running.wait()
    child.wait(timeout=20)


def test_check_says_what_would_be_served_where(app, nylon, nylon_nats):
    result = nylon("worker", "app:plugin", "--nats", nylon_nats.url, "--group", "g", "--check")
    assert (result.code, result.err) == (0, "")
    *said, broker, last = result.out.splitlines()
    assert said == [
        "entries:  who: request_filter",
        "group:    g",
        "subjects: nylon.g.call, nylon.g.w.*, nylon.g.workers",
    ]
    assert re.fullmatch(
        rf"broker:   \S+, nats-server \d+\.\d+\.\d+ at {nylon_nats.url[7:]}, messages .*", broker
    )
    assert last == "app:plugin: ok"


def test_check_fails_without_a_broker_and_says_why(app, nylon):
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{dead.getsockname()[1]}"
        result = nylon("worker", "app:plugin", "--nats", f"nats://{address}", "--group", "g", "--check")
    assert (result.code, result.out) == (1, "")
    assert f"no broker at nats://{address}" in result.err.splitlines()[-1]
    assert "Connect call failed" in result.err.splitlines()[-1]


@pytest.mark.parametrize("check", [("--check",), ()])
@pytest.mark.parametrize(
    ("app_text", "spec", "said"),
    [
        (APP, "nothing:plugin", "nothing"),
        (APP, "app:plugn", "plugn"),
        (APP, "no_such_file.py", "no_such_file.py"),
        (APP + "\ndef broken(:\n", "app:plugin", f"app.py:{APP.count(chr(10)) + 2}"),
        (APP + "\nraise RuntimeError('no licence')\n", "app:plugin", "no licence"),
    ],
    ids=["module", "attribute", "file", "syntax", "raises"],
)
def test_wrong_plugin_is_named_and_exits_with_1(app, nylon, nylon_nats, app_text, spec, said, check):
    (app / "app.py").write_text(app_text)
    result = nylon("worker", spec, "--nats", nylon_nats.url, "--group", "g", *check)
    assert result.code == 1
    assert said in result.err


def test_missing_group_is_said(app, nylon):
    result = nylon("worker", "app:plugin", "--check")
    assert result.code == 1
    assert "NATS_GROUP" in result.err


def test_nothing_of_the_terminal_is_left_to_the_workers(app, start, nylon_nats):
    running = start("nylon", "worker", "app:plugin", "--nats", nylon_nats.url, "--group", "cli_session")
    running.wait_for("serving group cli_session")
    [child] = psutil.Process(running.process.pid).children()
    assert os.getsid(child.pid) != os.getsid(running.process.pid)  # Ctrl-C reaches the supervisor only
