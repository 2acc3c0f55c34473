"""The embedded nats-server: it is ready when start returns, and gone when it should be."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from nylon.embedded import NatsServer, find_nats_server
from nylon.errors import GatewayError

START = """
from nylon.embedded import NatsServer
server = NatsServer().start()
print(server.pid, server._directory, flush=True)
"""


def info_of(server: NatsServer) -> dict[str, object]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        line = connection.makefile("rb").readline()
    assert line.startswith(b"INFO ")
    return json.loads(line[5:])


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while exists(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there after {seconds} s"
        time.sleep(0.01)


def test_started_server_takes_clients_at_once_and_is_gone_after_stop():
    with NatsServer() as server:
        pid = server.pid
        assert info_of(server)["host"] == "127.0.0.1"
        assert server.running
    assert not server.running
    assert not exists(pid)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()


def test_servers_run_side_by_side():
    with NatsServer() as one, NatsServer() as two:
        assert one.port != two.port
        assert info_of(one)["server_id"] != info_of(two)["server_id"]


def test_restart_keeps_the_port_after_a_crash():
    with NatsServer() as server:
        url, first = server.url, info_of(server)["server_id"]
        server.kill()
        assert not server.running
        server.restart()
        assert server.url == url
        assert info_of(server)["server_id"] != first


def test_stop_ends_a_server_that_ignores_sigterm():
    with NatsServer(stop_grace=0.1) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)  # a stopped process handles no SIGTERM
        server.stop()
        assert not exists(pid)


def test_server_outlives_the_thread_that_started_it():
    servers: list[NatsServer] = []
    thread = threading.Thread(target=lambda: servers.append(NatsServer().start()))
    thread.start()
    thread.join()
    with servers[0] as server:
        assert info_of(server)
        assert server.running


def test_configuration_is_private_and_obeyed(tmp_path: Path):
    config = 'authorization: {user: nylon, password: "s3cret"}\nmax_payload: 4096'
    with NatsServer(config=config, monitoring=True) as server:
        info = info_of(server)
        assert info["auth_required"] is True
        assert info["max_payload"] == 4096
        command = Path(f"/proc/{server.pid}/cmdline")
        if command.exists():
            words = command.read_bytes().split(b"\0")
            assert b"s3cret" not in b"".join(words)
            assert Path(words[words.index(b"-c") + 1].decode()).stat().st_mode & 0o077 == 0
        with urllib.request.urlopen(server.monitoring_url + "/varz", timeout=5) as answer:
            assert json.load(answer)["port"] == server.port


def test_error_holds_the_log_of_a_server_that_cannot_start():
    with pytest.raises(GatewayError, match="no_such_option"):
        NatsServer(config="no_such_option: 1").start()
    with NatsServer() as server, pytest.raises(GatewayError, match="address already in use"):
        NatsServer(port=server.port).start()


def test_nothing_is_known_before_the_first_start():
    server = NatsServer()
    for attribute in ("url", "pid", "monitoring_url"):
        with pytest.raises(GatewayError):
            getattr(server, attribute)
    server.stop()  # nothing to stop is not an error


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only an orderly exit takes the server along")
def test_server_dies_with_a_killed_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed process tidies nothing up
    command = [sys.executable, "-c", START + "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        assert exists(pid)
        parent.kill()
        wait_until_gone(pid)


def test_server_is_stopped_at_exit():
    command = [sys.executable, "-c", START]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    pid, directory = done.stdout.split()
    wait_until_gone(int(pid))
    assert not Path(directory).exists()


def test_binary_of_the_environment_is_found():
    assert find_nats_server().name == "nats-server"
