"""What every command shares with the terminal that it was typed in: messages, the log, signals."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

__all__ = ["configure_logging", "fail", "say", "stop_signals", "unreachable"]


def say(text: str) -> None:
    """Print to standard error: standard output belongs to what a command was asked for."""
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    """Print what went wrong and end with exit code 1."""
    say(f"nylon: {text}")
    raise SystemExit(1)


def configure_logging(*, level: str = "INFO") -> None:
    """Log to standard error, the gateway's Rust half too. NYLON_LOG sets the level, for child processes as well."""
    from nylon import _core
    from nylon.logs import log_to_stderr

    if os.environ.setdefault("NYLON_LOG", level).upper() == "WARNING":
        os.environ["NYLON_LOG"] = "WARN"  # the word that both halves know
    _core.start_logging(level)
    log_to_stderr("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


@contextlib.contextmanager
def stop_signals(*, also: Sequence[signal.Signals] = ()) -> Iterator[Callable[[], int]]:
    """Take SIGINT and SIGTERM within the block, whose value waits for the first; the second ends the process.

    The signals of `also` are waited for as well, any number of times; what is waited for gives the signal's number.

    What is waited for is the wake-up socket, to which the interpreter writes whichever thread the system has given the
    signal: a wait on a lock would miss one that comes just before it. And `os.write`, since a handler may interrupt
    this very thread inside any print.
    """
    arrived: collections.deque[int] = collections.deque()
    asked = False

    def handle(number: int, _frame: object) -> None:
        nonlocal asked
        if number in also:
            arrived.append(number)
            return
        if asked:
            os.write(2, b"nylon: stopped at once\n")
            os._exit(1)
        asked = True
        arrived.append(number)

    def wait() -> int:
        while not arrived:
            select.select([woken], [], [])
            woken.recv(4096)
        return arrived.popleft()

    woken, waking = socket.socketpair()
    waking.setblocking(False)
    numbers = (signal.SIGINT, signal.SIGTERM, *also)
    before = [signal.signal(number, handle) for number in numbers]
    waking_before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    try:
        yield wait
    finally:
        signal.set_wakeup_fd(waking_before)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        woken.close()
        waking.close()


def unreachable(servers: list[str], timeout: float = 2.0) -> list[str]:
    """One line per NATS server that takes no connection within `timeout` seconds."""
    from urllib.parse import urlsplit

    problems = []
    for server in servers:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        place = parts.netloc.rpartition("@")[2]  # without credentials
        try:
            address = (parts.hostname or "localhost", parts.port or 4222)
            socket.create_connection(address, timeout).close()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            problems.append(f"no NATS server answers at {place} ({why})")
    return problems
