"""Gateways and workers in processes of their own, as users run them.

Each writes its log to a file that tests can read, and is stopped at the end of its `with` block: first in good order,
and if that takes too long it is killed and the test fails.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from support.client import Address
from support.waiting import eventually

TESTS = Path(__file__).resolve().parent.parent
NYLON = Path(sys.executable).parent / "nylon"


def peak_memory(pid: int) -> int:
    """The most resident bytes that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


class Process:
    """One process and its log."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        output_to_log: bool = False,
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        self._last_log = ""
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=self._log if output_to_log else subprocess.PIPE,
            stderr=self._log,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        if self._log.closed:
            return self._last_log
        return os.pread(self._log.fileno(), 1 << 24, 0).decode(errors="replace")

    def await_serving(self) -> None:
        """Wait until it says that it serves a group."""
        eventually(
            lambda: "serving group" in self.log or self._process.poll() is not None, "a serving worker"
        )
        assert self._process.poll() is None, f"the worker ended; its log:\n{self.log}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def working_pid(self) -> int:
        """The id of the process that does the work."""
        return self.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process.poll() is None

    @property
    def memory(self) -> int:
        """Resident bytes of the process alone."""
        return int(psutil.Process(self.working_pid).memory_info().rss)

    @property
    def peak_memory(self) -> int:
        """The most resident bytes that it ever had."""
        return peak_memory(self.working_pid)

    def read_line(self) -> str:
        """The next line of its standard output; fails with the log if it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(10)
            raise AssertionError(f"{self._process.args} ended with {code}; its log:\n{self.log}")
        return line.decode()

    def wait(self, within: float = 20.0) -> int:
        """Wait for its end and return its exit code."""
        return self._process.wait(within)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop it in good order; fails if it had to be killed."""
        killed = False
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                killed = True
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._last_log = self.log
        self._log.close()
        assert not killed, f"{self._process.args} did not stop; its log:\n{self._last_log}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _address(url: str) -> Address:
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    return parts.hostname, parts.port


class GatewayProcess(Process):
    """`nylon.Gateway` in a process of its own, with a configuration as a dict."""

    def __init__(self, config: Mapping[str, Any], *, import_path: Path = TESTS) -> None:
        super().__init__(
            [sys.executable, TESTS / "support" / "serve.py"],
            cwd=import_path,
            environment={"PYTHONPATH": str(import_path)},
        )
        try:
            self.urls: list[str] = self._told(config)
        except BaseException:
            self.stop()
            raise

    def _told(self, config: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(config).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self.read_line())

    def reload(self, config: Mapping[str, Any]) -> int:
        """Put another configuration into the place of the running one; the generation's number."""
        return int(self._told(config))

    @property
    def address(self) -> Address:
        """Where its first listener is."""
        return _address(self.urls[0])

    @property
    def tls_address(self) -> Address:
        """Where its first listener for HTTPS is."""
        return _address(next(url for url in self.urls if url.startswith("https://")))


Start = Callable[..., GatewayProcess]
"""A fixture's function that starts a gateway, with the arguments of `gateway_config` after the origin."""


class WorkerProcess(Process):
    """`nylon worker` with one worker."""

    def __init__(
        self,
        plugin: str,
        *,
        nats: str,
        group: str,
        app_dir: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [
            NYLON,
            "worker",
            plugin,
            "--nats",
            nats,
            "--group",
            group,
            "--app-dir",
            app_dir,
            *arguments,
        ]
        super().__init__(command, cwd=app_dir, environment=environment)

    @property
    def working_pid(self) -> int:
        """The id of the worker, under its supervisor."""
        (worker,) = psutil.Process(self.pid).children()
        return int(worker.pid)


class ProgramWorker(Process):
    """A worker that is a program of its own, which finds its broker and its group in the environment."""

    def __init__(self, program: Path, *, nats: str, group: str, arguments: Sequence[str | Path] = ()) -> None:
        environment = {"NATS_SERVERS": nats, "NATS_GROUP": group}
        super().__init__([program, *arguments], cwd=program.parent, environment=environment)
