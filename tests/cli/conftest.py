"""Running the command as a user does: a process of its own, its output, its exit code."""

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support.command import NYLON, environment

WAIT = 30.0


@dataclass(frozen=True)
class Result:
    """What a finished command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def nylon(tmp_path: Path) -> Callable[..., Result]:
    """Runs `nylon …` to its end in `tmp_path` (or `cwd`)."""

    def run(*arguments: str, cwd: Path = tmp_path, **env: str) -> Result:
        done = subprocess.run(
            [*NYLON, *arguments],
            cwd=cwd,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return run


class Running:
    """A command that runs, with what it has printed so far (both streams, in order)."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def wait_for(self, text: str, seconds: float = WAIT) -> str:
        """The first line that contains `text`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._lines:
                    if text in line:
                        return line
                ended = not self._reader.is_alive()
                assert not ended, f"it ended without saying {text!r}:\n{self.output}"
                left = deadline - time.monotonic()
                assert left > 0, f"it did not say {text!r} within {seconds} s:\n{self.output}"
                self._changed.wait(min(left, 0.5))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = WAIT) -> int:
        """The exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def end(self) -> None:
        """Whatever is left of it, its children included (a worker would drain for a while)."""
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self.process.kill()
        self.process.wait()
        self._reader.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a command in `tmp_path` (or `cwd`); all are killed at the end of the test."""
    running: list[Running] = []

    def run(*command: str, cwd: Path = tmp_path, **env: str) -> Running:
        words = [*NYLON, *command[1:]] if command[0] == "nylon" else list(command)
        running.append(Running(words, cwd, environment(**env)))
        return running[-1]

    yield run
    for one in running:
        one.end()
