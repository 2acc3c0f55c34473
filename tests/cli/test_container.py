"""Workers as the first process of a container: told by two variables where to serve, stopped by SIGTERM.

Process 1 is special: the system delivers it no signal that it does not handle, and with it everything else in there
ends. A namespace of process ids of its own is all of a container that matters here.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest
from support.command import NYLON

AS_FIRST = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
SCRIPT = """
import os, time
from nylon import NatsPlugin

plugin = NatsPlugin()

@plugin.request_filter("who")
def who(ctx):
    if ctx.request.path == "/hang":
        print("hangs", flush=True)
        time.sleep(60)
    ctx.response.body_text(str(os.getpid()))
    ctx.end()

if __name__ == "__main__":
    plugin.run()
"""


def can_unshare() -> bool:
    """Whether this machine lets us be process 1 of something."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*AS_FIRST, "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="no namespace of process ids to be had here")


@pytest.fixture
def container(start, nylon_nats, tmp_path: Path):
    """Starts a command as process 1 with the two variables; gives it and its process."""
    (tmp_path / "auth.py").write_text(SCRIPT)

    def run(*command: str, group: str):
        env = {"NATS_SERVERS": nylon_nats.url, "NATS_GROUP": group, "PYTHONUNBUFFERED": "1"}
        running = start(*AS_FIRST, *command, **env)
        running.wait_for(f"serving group {group}")
        [first] = psutil.Process(running.process.pid).children()
        return running, first

    return run


@pytest.fixture
def served(nylon_gateway, nylon_nats):
    """Starts a gateway whose every path is answered by a group's workers; gives its URL."""

    def serve(group: str) -> str:
        gateway = nylon_gateway(
            {
                "messaging": [{"name": "nats", "type": "nats", "servers": [nylon_nats.url]}],
                "plugins": [{"name": "p", "messaging": "nats", "group": group}],
                "services": [
                    {"name": "s", "service_type": "plugin", "plugin": {"name": "p", "entry": "who"}}
                ],
                "routes": [
                    {
                        "name": "r",
                        "route": {"type": "host", "value": "*"},
                        "paths": [{"path": "/{*path}", "service": {"name": "s"}}],
                    }
                ],
            }
        )
        return gateway.urls[0]

    return serve


def test_script_serves_with_two_variables_alone_and_drains_on_sigterm(container, served):
    running, first = container(sys.executable, "auth.py", group="container")
    url = served("container")
    assert httpx.get(f"{url}/x").text == "1"
    first.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "draining" in running.output


def test_second_signal_stops_a_script_at_once_though_it_is_process_1(container, served):
    running, first = container(sys.executable, "auth.py", group="impatient")
    url = served("impatient")

    def hang() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/hang", timeout=20)

    client = threading.Thread(target=hang)
    client.start()
    running.wait_for("hangs")
    first.send_signal(signal.SIGTERM)
    running.wait_for("draining")
    first.send_signal(signal.SIGTERM)
    assert running.wait() == 128 + signal.SIGTERM
    client.join()


def test_supervisor_drains_its_workers_on_sigterm_though_it_is_process_1(container, served):
    running, first = container(*NYLON, "worker", "auth.py", "--workers", "2", group="supervised")
    url = served("supervised")
    assert httpx.get(f"{url}/x").status_code == 200
    workers = first.children()
    assert len(workers) == 2
    first.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not any(worker.is_running() for worker in workers)
