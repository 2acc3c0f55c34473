"""Processes of a measurement: started on one core, their CPU time read from the kernel, ended by their pid.

Every process is started through a `Processes`, whose end (an exception and Ctrl-C included) ends them all. They
also ask the kernel to be told when this process dies, so that not even a kill leaves one behind.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ENDING_SECONDS = 5.0
STARTING_SECONDS = 30.0


class Failed(Exception):
    """A measurement that cannot be done; the text says why."""


class Process:
    """One process that was started, with its children."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.popen = popen
        self.log = log

    def pids(self) -> list[int]:
        """It and all its descendants."""
        found, waiting = [], [self.popen.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    children = (task / "children").read_text()
                    waiting += [int(child) for child in children.split()]
        return found

    def cpu_seconds(self) -> float:
        """CPU time so far of all its threads and children, by the scheduler's own account (nanoseconds).

        `/proc/PID/stat` counts in ticks of 10 ms, which is too coarse for a run of a second.
        """
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def resident_bytes(self) -> int:
        """Resident memory of it and its children; pages that they share count twice."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        return total

    def last_words(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2000:]

    def check_alive(self) -> None:
        """Raises `Failed` if it ended."""
        if self.popen.poll() is not None:
            raise Failed(f"{self.name} ended with code {self.popen.returncode}:\n{self.last_words()}")

    def wait_listening(self, port: int) -> None:
        """Waits until something listens on `port`; raises `Failed` where the process ends or time runs out."""
        until = time.monotonic() + STARTING_SECONDS
        while time.monotonic() < until:
            self.check_alive()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            time.sleep(0.02)
        raise Failed(f"{self.name} does not listen on port {port}:\n{self.last_words()}")


class Processes:
    """All processes of a run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[Process] = []

    def start(self, name: str, command: Sequence[str], core: int | None) -> Process:
        """Starts a command, bound to a core; its output goes to a log file in the run directory."""
        log = self.directory / f"{name.replace(' ', '-')}.out"
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        with log.open("ab") as out:
            popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *pinned, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we end them in order
            )
        process = Process(name, popen, log)
        self._started.append(process)
        return process

    def stop(self, process: Process) -> None:
        """Ends one process and its children."""
        self._started.remove(process)
        _end([process])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave half of them behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            # The last one started first: what uses a broker or an origin ends before it.
            _end(self._started[::-1])
            self._started.clear()
        finally:
            signal.signal(signal.SIGINT, before)


def _end(processes: Sequence[Process]) -> None:
    trees = [(process, process.pids()) for process in processes]
    for process, _ in trees:
        if process.popen.poll() is None:
            process.popen.terminate()
    until = time.monotonic() + ENDING_SECONDS
    for process, pids in trees:
        try:
            process.popen.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()
        for pid in pids[1:]:
            # Children of its own session only: a number may have been given to somebody else since.
            with contextlib.suppress(OSError):
                if os.getsid(pid) == pids[0]:
                    os.kill(pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
