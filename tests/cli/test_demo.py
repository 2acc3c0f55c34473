"""`nylon demo`: it works, says what it does, and leaves nothing behind."""

import re
import shlex
import signal
import subprocess
from pathlib import Path

import psutil
import pytest


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []


def pids_of(output: str) -> dict[str, int]:
    """The processes that the demo says it has, by what they are."""
    return {
        found["what"].strip(): int(found["pid"])
        for found in re.finditer(r"^  (?P<what>\w[\w ]*?) {2,}.*pid (?P<pid>\d+)$", output, re.MULTILINE)
    }


def test_check_tries_everything_over_http_and_exits_with_0(nylon):
    result = nylon("demo", "--check")
    assert result.code == 0, result.out + result.err
    assert result.err == ""
    pids = pids_of(result.out)
    assert set(pids) == {"NATS server", "origin", "worker 1", "worker 2", "gateway"}
    assert result.out.count("curl -i") == 6  # to try, and tried
    assert "  401 {'www-authenticate': 'ApiKey'" in result.out
    assert '"x-user": "42"' in result.out
    for worker in ("worker 1", "worker 2"):
        assert f"pid {pids[worker]} (" in result.out
    assert result.out.endswith("all as it should be\n")
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_check_fails_where_a_worker_answers_wrongly(nylon, tmp_path: Path):
    # The demo's own plugin, with the door left open on the workers only.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'nylon.worker' in ' '.join(sys.orig_argv):\n"
        "    import nylon.demo_plugin as demo, nylon\n"
        "    demo.plugin = nylon.NylonPlugin()\n"
        "    @demo.plugin.request_filter('auth')\n"
        "    def auth(ctx): ctx.next()\n"
    )
    result = nylon("demo", "--check", PYTHONPATH=str(tmp_path))
    assert result.code == 1
    assert "WRONG: /nats/hello" in result.out
    assert result.out.endswith("something is wrong\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_runs_until_a_signal_and_leaves_no_process(start, number):
    running = start("nylon", "demo")
    running.wait_for("Ctrl-C")
    processes = descendants(running.process.pid)
    assert {process.pid for process in processes} >= {
        pid for what, pid in pids_of(running.output).items() if what not in ("gateway", "origin")
    }
    running.send(number)
    assert running.wait() == 0
    assert_gone(processes)


def test_lines_to_try_are_commands_that_work(start):
    running = start("nylon", "demo")
    running.wait_for("Ctrl-C")
    lines = [line.strip() for line in running.output.splitlines() if line.strip().startswith("curl ")]
    assert len(lines) == 3
    statuses = []
    for line in lines:
        answer = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=20, check=True)
        statuses.append(answer.stdout.split()[1])
    assert statuses == ["401", "200", "200"]


def test_killed_demo_leaves_no_process(start, tmp_path: Path):
    running = start("nylon", "demo", TMPDIR=str(tmp_path))  # a killed process tidies no directory up
    running.wait_for("Ctrl-C")
    processes = descendants(running.process.pid)
    assert processes
    running.send(signal.SIGKILL)
    running.wait()
    assert_gone(processes)
