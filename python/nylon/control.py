"""The control socket: how `nylon reload` and `nylon status` speak to a gateway that runs.

A Unix socket that only its owner may open (mode 0600). One line of JSON asks, one line answers, and the connection
ends. What it can do is little on purpose: whoever may open it may reload the configuration's file, and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nylon.errors import GatewayError, NylonError

__all__ = ["Control", "ask"]

_log = logging.getLogger("nylon.control")

#: Bytes of a question, and seconds that a client may take to ask it and to take the answer.
_MAX_QUESTION = 64 * 1024
_PATIENCE = 5.0
#: Questions that are answered at once; a reload that waits for its plugins keeps one of them.
_AT_ONCE = 8

Command = Callable[[dict[str, Any]], Any]
"""Gets the question, gives what stands in the answer's `result`; a `NylonError` becomes the answer's `error`."""


class Control:
    """Answers questions on a Unix socket, from its making until `close`."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        """Listens.

        Raises:
            GatewayError: the socket cannot be made; the text says why and what to do.
        """
        self.path = path
        self._commands = commands
        self._listener = _listen(path)
        self._identity = _identity(path)
        self._woken, self._waking = socket.socketpair()
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._asking: set[socket.socket] = set()
        self._answering: set[threading.Thread] = set()
        self._thread = threading.Thread(target=self._accept, name="nylon-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes no more questions, and removes the socket; those that are being answered go on until `join`."""
        self._waking.close()
        self._thread.join()
        self._woken.close()
        self._listener.close()
        for client in list(self._asking):  # nobody waits for one that has not asked yet
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)
        if _identity(self.path) == self._identity:  # and not another gateway's, which has taken the place
            self.path.unlink(missing_ok=True)

    def join(self, timeout: float) -> None:
        """Waits for the questions that are being answered, for at most `timeout` seconds."""
        until = time.monotonic() + timeout
        for thread in list(self._answering):
            thread.join(max(until - time.monotonic(), 0))

    def _accept(self) -> None:
        while True:
            readable, _, _ = select.select([self._listener, self._woken], [], [])
            if self._woken in readable:
                return
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                    _log.warning("the control socket cannot accept: %s", error)
                    time.sleep(0.05)
                continue
            client.settimeout(_PATIENCE)
            if self._room.acquire(blocking=False):
                self._asking.add(client)
                # A daemon: a plugin whose `initialize` hangs in a reload must not keep the process from its end.
                threading.Thread(
                    target=self._serve, args=(client,), name="nylon-control-answer", daemon=True
                ).start()
            else:
                with contextlib.suppress(OSError), client:
                    _send(client, {"error": "too many commands are being answered: try again"})

    def _serve(self, client: socket.socket) -> None:
        self._answering.add(threading.current_thread())
        try:
            with client:
                try:
                    question = _receive(client)
                finally:
                    self._asking.discard(client)
                if question is not None:
                    _send(client, self._answer(question))
        except (OSError, ValueError) as error:
            _log.warning("a command on the control socket was not answered: %s", error)
        finally:
            self._answering.discard(threading.current_thread())
            self._room.release()

    def _answer(self, question: Any) -> dict[str, Any]:
        name = question.get("command") if isinstance(question, dict) else None
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            return {"error": f"there is no such command; there are {', '.join(sorted(self._commands))}"}
        try:
            return {"result": command(question)}
        except NylonError as error:
            return {"error": str(error)}
        except Exception as error:  # its place is the gateway's log, its name is for whoever asked
            _log.exception("a command on the control socket failed")
            return {"error": f"the gateway failed at it ({type(error).__name__}); its log says more"}


def ask(path: str | os.PathLike[str], command: str, *, timeout: float, **arguments: Any) -> Any:
    """Asks the gateway whose control socket is at `path`, and returns its answer.

    Raises:
        GatewayError: nobody answers there, or the gateway refuses; the text is its own.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.settimeout(timeout)
            server.connect(os.fspath(path))
            _send(server, {"command": command, **arguments})
            answer = _receive(server, limit=None)
    except (FileNotFoundError, ConnectionRefusedError):
        raise GatewayError(f"no gateway answers at {path}: none runs, or its `control:` is another") from None
    except PermissionError:
        raise GatewayError(f"{path} belongs to another user: ask as the one that runs the gateway") from None
    except TimeoutError:
        raise GatewayError(f"the gateway at {path} did not answer within {timeout:g} s") from None
    except (OSError, ValueError) as error:
        raise GatewayError(f"the gateway at {path} gave no answer: {error}") from None
    if not isinstance(answer, dict):
        raise GatewayError(f"the gateway at {path} closed the connection without an answer")
    if "error" in answer:
        raise GatewayError(answer["error"])
    return answer.get("result")


def _listen(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before `listen`: until then nobody can connect
        listener.listen(16)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise GatewayError(f"cannot make the control socket {path}: {error.strerror or error}") from None
    return listener


def _clear(path: Path) -> None:
    """Removes a socket that a gateway has left behind; anything else that is there is an error."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise GatewayError(f"cannot make the control socket {path}: something else is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(_PATIENCE)
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise GatewayError(f"cannot make the control socket {path}: {error.strerror or error}") from None
    raise GatewayError(f"cannot make the control socket {path}: another gateway answers there")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _send(sock: socket.socket, message: dict[str, Any]) -> None:
    sock.sendall(json.dumps(message).encode() + b"\n")


def _receive(sock: socket.socket, limit: int | None = _MAX_QUESTION) -> Any:
    """One line of JSON; None where the other side says nothing."""
    deadline = time.monotonic() + (sock.gettimeout() or _PATIENCE)
    received = bytearray()
    for data in _pieces(sock, deadline):
        received += data
        if limit is not None and len(received) > limit:
            raise ValueError(f"a command of more than {limit} bytes")
        if data.endswith(b"\n"):
            break
    return json.loads(received) if received else None


def _pieces(sock: socket.socket, deadline: float) -> Iterator[bytes]:
    while True:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        data = sock.recv(65536)
        if not data:
            return
        yield data
