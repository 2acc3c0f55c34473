"""`nylon run`: what it prints, how it stops, and what it says of mistakes."""

import http.client
import os
import signal
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PLUGIN = """
import threading
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.request_filter("hello")
def hello(ctx):
    ctx.response.body_text("hello")
    ctx.end()

@plugin.request_filter("stuck")
def stuck(ctx):
    print("stuck", flush=True)
    threading.Event().wait()

@plugin.request_filter("gate")
def gate(ctx):
    print("waiting at", FIFO, flush=True)
    with open(FIFO) as fifo:       # until the test opens it
        ctx.response.body_text(fifo.read())
    ctx.end()

@plugin.request_filter("broken")
def broken(ctx):
    raise LookupError("a handler's mistake")
"""
CONFIG = """
http: [ADDRESS]
plugins:
  - {name: p, file: app.py}
services:
  - {name: hello, service_type: plugin, plugin: {name: p, entry: hello}}
  - {name: stuck, service_type: plugin, plugin: {name: p, entry: stuck}}
  - {name: gate, service_type: plugin, plugin: {name: p, entry: gate}}
  - {name: broken, service_type: plugin, plugin: {name: p, entry: broken}}
routes:
  - name: r
    route: {type: host, value: "*"}
    paths:
      - {path: /hello, service: {name: hello}}
      - {path: /stuck, service: {name: stuck}}
      - {path: /gate, service: {name: gate}}
      - {path: /broken, service: {name: broken}}
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory with a configuration and its plugin."""
    (tmp_path / "app.py").write_text(f"FIFO = {str(tmp_path / 'fifo')!r}\n{PLUGIN}")
    (tmp_path / "nylon.yaml").write_text(CONFIG.replace("ADDRESS", "127.0.0.1:0"))
    return tmp_path


def url_of(running) -> str:
    return running.wait_for("listening on").rpartition("listening on ")[2].strip()


def get(url: str, results: list | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        result = (response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        result = (0, repr(error).encode())
    finally:
        connection.close()
    if results is not None:
        results.append(result)
    return result


@pytest.mark.parametrize("arguments", [("run", "-c", "nylon.yaml"), ("--config", "nylon.yaml")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_gateway_serves_until_a_signal_and_exits_with_0(app, start, arguments, number):
    running = start("nylon", *arguments)
    assert get(url_of(running) + "/hello") == (200, b"hello")
    running.send(number)
    assert running.wait() == 0
    assert "Traceback" not in running.output


def test_file_may_come_from_the_environment(app, start):
    running = start("nylon", NYLON_CONFIG="nylon.yaml")
    assert get(url_of(running) + "/hello") == (200, b"hello")


def test_signal_lets_an_open_request_finish(app, start):
    os.mkfifo(app / "fifo")
    running = start("nylon", "run", "-c", "nylon.yaml")
    url = url_of(running)
    results: list[tuple[int, bytes]] = []
    client = threading.Thread(target=get, args=(url + "/gate", results))
    client.start()
    running.wait_for("waiting at")
    running.send(signal.SIGTERM)
    running.wait_for("draining")
    (app / "fifo").write_text("finished after all")
    client.join()
    assert results == [(200, b"finished after all")]
    assert running.wait() == 0


def test_second_signal_stops_at_once(app, start):
    running = start("nylon", "run", "-c", "nylon.yaml")
    client = threading.Thread(target=get, args=(url_of(running) + "/stuck",))
    client.start()
    running.wait_for("stuck")
    running.send(signal.SIGINT)
    running.wait_for("draining")
    running.send(signal.SIGINT)
    assert running.wait(10) == 1
    running.wait_for("stopped at once")
    client.join()


def test_handlers_traceback_is_in_the_log_and_not_in_the_answer(app, start):
    running = start("nylon", "run", "-c", "nylon.yaml")
    status, body = get(url_of(running) + "/broken")
    assert status == 500
    assert b"mistake" not in body
    running.wait_for('app.py", line')
    running.wait_for("raise LookupError(")


def test_log_in_a_file_has_no_colours(app, start):
    running = start("nylon", "run", "-c", "nylon.yaml", NO_COLOR="", TERM="xterm")
    get(url_of(running) + "/broken")
    running.wait_for("request_id=")
    assert "\x1b" not in running.output


@pytest.mark.parametrize("level", ["WARNING", "warn", "ERROR"])
def test_level_of_the_log_is_obeyed_by_both_halves(app, start, level):
    (app / "app.py").write_text(
        PLUGIN.replace("raise LookupError", "ctx.logger.warning('a word of warning'); raise LookupError")
    )
    (app / "app.py").write_text(f"FIFO = ''\n{(app / 'app.py').read_text()}")
    running = start("nylon", "run", "-c", "nylon.yaml", NYLON_LOG=level)
    get(url_of(running) + "/broken")
    running.wait_for("raise LookupError(")
    running.send(signal.SIGTERM)
    running.wait()
    warned = level != "ERROR"
    assert ("a word of warning\n" in running.output) == warned
    assert ("nylon_gateway" in running.output) == warned


def test_port_in_use_is_one_clear_line(app, start, nylon):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (app / "nylon.yaml").write_text(CONFIG.replace("ADDRESS", address))
        result = nylon("run", "-c", "nylon.yaml")
    assert result.code == 1
    [line] = result.err.splitlines()
    assert line.startswith("nylon: ") and address in line and "in use" in line


def test_port_in_use_by_another_nylon_is_refused_too(app, start, nylon):
    address = url_of(start("nylon", "run", "-c", "nylon.yaml")).removeprefix("http://")
    (app / "second.yaml").write_text(CONFIG.replace("ADDRESS", address))
    result = nylon("run", "-c", "second.yaml")
    assert result.code == 1
    assert address in result.err and "in use" in result.err


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("from nylon import NylonPlugin\nplugin = NylonPlugin(\n", "app.py:2"),
        ("from nylon import NylonPlugin\nraise RuntimeError('no licence')\n", "app.py:2"),
        ("from nylon import NylonPlugin\nother = NylonPlugin()\n", "app.py"),
        ("plugin = 42\n", "int"),
        ("from nylon import NylonPlugin\nplugin = NylonPlugin()\n", "nylon.yaml:6"),
        (
            "from nylon import NylonPlugin\nplugin = NylonPlugin()\n@plugin.logging('helo')\ndef f(c): pass",
            "helo",
        ),
    ],
    ids=["syntax", "raises", "attribute", "type", "no-entry", "misspelt-entry"],
)
def test_wrong_plugin_is_named_with_its_place_and_no_traceback_of_ours(app, nylon, plugin, said):
    (app / "app.py").write_text(plugin)
    result = nylon("run", "-c", "nylon.yaml")
    assert result.code == 1
    assert said in result.err
    assert "site-packages" not in result.err and "nylon/loading.py" not in result.err


def test_missing_plugin_file_is_an_error_of_the_configuration(app, nylon):
    (app / "app.py").unlink()
    result = nylon("run", "-c", "nylon.yaml")
    assert result.code == 1
    assert "nylon.yaml:4:" in result.err and "app.py" in result.err


def test_wrong_configuration_shows_all_errors_and_starts_nothing(app, nylon):
    text = CONFIG.replace("ADDRESS", "127.0.0.1:0").replace("{name: hello}", "{name: helo}")
    (app / "nylon.yaml").write_text(text.replace("type: host", "type: hots"))
    result = nylon("run", "-c", "nylon.yaml")
    assert result.code == 1
    assert "nylon.yaml:12:" in result.err and "did you mean `host`?" in result.err
    assert "nylon.yaml:14:" in result.err and "did you mean `hello`?" in result.err
    assert "listening" not in result.err


def test_unreachable_broker_keeps_no_gateway_from_starting(app, start):
    with socket.socket() as dead:  # bound, not listening: nobody else can answer there
        dead.bind(("127.0.0.1", 0))
        server = f"nats://127.0.0.1:{dead.getsockname()[1]}"
        text = CONFIG.replace("ADDRESS", "127.0.0.1:0") + (
            "      - {path: /remote, service: {name: remote}}\n"
        )
        text = text.replace(
            "services:\n",
            f'  - {{name: q, messaging: nats, group: g}}\nmessaging: [{{name: nats, servers: ["{server}"]}}]\n'
            "services:\n  - {name: remote, service_type: plugin, plugin: {name: q, entry: x}}\n",
        )
        (app / "nylon.yaml").write_text(text)
        running = start("nylon", "run", "-c", "nylon.yaml")
        url = url_of(running)
        assert get(url + "/hello") == (200, b"hello")
        assert get(url + "/remote")[0] == 503
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_sighup_reloads_the_file(app, start):
    running = start("nylon", "run", "-c", "nylon.yaml")
    url = url_of(running)
    assert get(url + "/hello") == (200, b"hello")
    source = (app / "app.py").read_text()
    (app / "app.py").write_text(source.replace('body_text("hello")', 'body_text("hallo")'))
    running.send(signal.SIGHUP)
    running.wait_for("reloaded, generation 2: started p; kept none; ended p")
    assert get(url + "/hello") == (200, b"hallo")
    running.send(signal.SIGTERM)
    assert running.wait() == 0


def test_sighup_with_a_wrong_file_changes_nothing_and_says_all_that_is_wrong(app, start):
    running = start("nylon", "run", "-c", "nylon.yaml")
    url = url_of(running)
    config = (app / "nylon.yaml").read_text()
    (app / "nylon.yaml").write_text(config.replace("routes:", "rutes:") + "\nlimits: {max: 1}\n")
    running.send(signal.SIGHUP)
    running.wait_for("the reload was refused, the running configuration stays")
    running.wait_for("unknown key `rutes`")
    running.wait_for("unknown key `max`")
    assert get(url + "/hello") == (200, b"hello")
    (app / "nylon.yaml").write_text(config)
    running.send(signal.SIGHUP)
    running.wait_for("reloaded, generation 2: started none; kept p; ended none")
    running.send(signal.SIGINT)
    assert running.wait() == 0


def test_reload_whose_initialize_hangs_does_not_keep_the_gateway_from_stopping(app, start):
    (app / "nylon.yaml").write_text((app / "nylon.yaml").read_text() + "runtime: {grace_period_seconds: 1}\n")
    running = start("nylon", "run", "-c", "nylon.yaml")
    url = url_of(running)
    hanging = "\n@plugin.initialize\ndef hang(config):\n    print('hangs', flush=True)\n    threading.Event().wait()\n"
    (app / "app.py").write_text((app / "app.py").read_text() + hanging)
    running.send(signal.SIGHUP)
    running.wait_for("hangs")
    assert get(url + "/hello") == (200, b"hello")
    running.send(signal.SIGTERM)
    assert running.wait() == 0
