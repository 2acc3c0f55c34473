"""The server behind the gateway: it echoes, answers as told, misbehaves as told, and remembers what it got.

One thread per connection over plain sockets, so that a test can hold, reset or half-send whatever it likes. Plugin
handlers use it too, wherever they run: they tell it what they saw (`journal`) and wait at its gates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from support.client import Address
from support.waiting import eventually


class Gone(Exception):
    """The other side ended the connection."""


@dataclass
class Received:
    """A request as the origin got it. Values are Latin-1, so that no byte gets lost."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunked: bool = False
    connection: int = 0
    """Which connection it came on, counted from 1."""
    complete: bool = False
    """Whether its body came to its end."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def all(self, name: str) -> list[str]:
        """The values of a field, line by line."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a field, or None. Fails if it is repeated."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


@dataclass
class Reply:
    """What the origin answers. `content-length` is added unless the headers frame the body themselves."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    reason: str = "Whatever"

    def encode(self, *, with_body: bool = True) -> bytes:
        """The bytes for the wire."""
        fields = list(self.headers)
        framed = {name.lower() for name, _ in fields} & {"content-length", "transfer-encoding"}
        if not framed and self.status not in (204, 304):
            fields.append(("content-length", str(len(self.body))))
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{n}: {v}" for n, v in fields), "", ""]
        return "\r\n".join(lines).encode("latin-1") + (self.body if with_body else b"")


class Line:
    """The origin's end of one connection, for behaviours that do more than answer."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.socket = sock
        self.number = number
        self._buffer = bytearray()

    def send(self, data: bytes) -> None:
        """Send these very bytes; raises `Gone` if nobody takes them."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone from error

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read_some(self) -> bytes:
        """What has come, at least a byte; raises `Gone` at the end."""
        if not self._buffer:
            self._fill()
        data, self._buffer = bytes(self._buffer), bytearray()
        return data

    def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = bytes(self._buffer[:size]), self._buffer[size:]
        return data

    def read_line(self) -> bytes:
        """One line without its end."""
        return self.read_until(b"\r\n")

    def read_until(self, mark: bytes) -> bytes:
        """All up to `mark`, which is taken too."""
        while mark not in self._buffer:
            self._fill()
        data, _, rest = bytes(self._buffer).partition(mark)
        self._buffer = bytearray(rest)
        return data

    def read_body(self, request: Received) -> bytes:
        """The request's body, in whichever framing it comes."""
        if request.chunked:
            whole = bytearray()
            while size := int(self.read_line().split(b";")[0], 16):
                whole += self.read_exactly(size)
                self.read_line()
            while self.read_line():
                pass
            return bytes(whole)
        return self.read_exactly(int(request.header("content-length") or 0))

    def _fill(self) -> None:
        try:
            data = self.socket.recv(262144)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self._buffer += data


Behaviour = Callable[[Line, Received], Reply | None]
"""Answers a request, or takes the connection into its own hands and returns None (then it is closed)."""


class Origin:
    """The server. A context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: Address = self._listener.getsockname()
        self.requests: list[Received] = []
        self.connections = 0
        self._replies: dict[str, Reply] = {}
        self._behaviours: dict[str, tuple[Behaviour, bool]] = {}
        self._journal: defaultdict[str, list[Any]] = defaultdict(list)
        self._gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._stopping = False
        self._acceptor = threading.Thread(target=self._accept, name="origin")

    @property
    def authority(self) -> str:
        """`host:port`."""
        return f"{self.address[0]}:{self.address[1]}"

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close everything and wait for every thread."""
        with self._lock:
            self._stopping = True
            for gate in self._gates.values():
                gate.set()
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        for thread in list(self._threads):
            thread.join(10)
        assert not self._acceptor.is_alive() and not self._threads, "the origin's threads do not end"

    # ── what it is told ──

    def answer(self, path: str, reply: Reply) -> None:
        """Answer requests for `path` like this from now on."""
        self._replies[path] = reply

    def behave(self, path: str, behaviour: Behaviour, *, read_body: bool = True) -> None:
        """Hand requests for `path` to a function; with `read_body=False` before their body is read."""
        self._behaviours[path] = (behaviour, read_body)

    def close_connections(self) -> None:
        """End all connections that are open now, in good order."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def open_gate(self, name: str) -> None:
        """Let everybody through who waits, or will wait, at this gate."""
        with self._lock:
            self._gates[name].set()

    def pass_gate(self, name: str) -> None:
        """Wait at a gate, from a behaviour or a request."""
        with self._lock:
            gate = self._gates[name]
            self._waiting[name] += 1
        gate.wait(30)
        with self._lock:
            self._waiting[name] -= 1

    # ── what it knows ──

    def received(self, path: str) -> list[Received]:
        """The requests for `path`, oldest first."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def waiting(self, gate: str) -> int:
        """How many wait at this gate."""
        return self._waiting[gate]

    def await_waiting(self, gate: str, count: int = 1) -> None:
        """Wait until `count` wait at this gate."""
        eventually(lambda: self.waiting(gate) >= count, f"{count} waiting at gate {gate}")

    def told(self, key: str) -> list[Any]:
        """What handlers told under this key so far."""
        with self._lock:
            return list(self._journal[key])

    def await_told(self, key: str, count: int = 1) -> list[Any]:
        """Wait until handlers told at least `count` things under this key, and return them."""
        return eventually(lambda: t if len(t := self.told(key)) >= count else None, f"{count} x told {key}")

    # ── how ──

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._stopping:
                    sock.close()
                    return
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(sock, self.connections))
                self._open.add(sock)
                self._threads.add(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        line = Line(sock, number)
        try:
            with contextlib.suppress(Gone):
                while self._serve_one(line):
                    pass
        finally:
            with self._lock:
                self._open.discard(sock)
                self._threads.discard(threading.current_thread())
            sock.close()

    def _serve_one(self, line: Line) -> bool:
        head = line.read_until(b"\r\n\r\n").decode("latin-1")
        first, *fields = head.split("\r\n")
        method, target, version = first.split(" ")
        pairs = [text.partition(":") for text in fields]
        headers = [(name, value.strip(" \t")) for name, _, value in pairs]
        request = Received(method, target, version, headers, connection=line.number)
        request.chunked = (request.header("transfer-encoding") or "").lower() == "chunked"
        behaviour, read_body = self._behaviours.get(request.path, (self._usual, True))
        with self._lock:
            if not request.path.startswith("/_"):
                self.requests.append(request)
        if read_body:
            if (request.header("expect") or "").lower() == "100-continue":
                line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.body = line.read_body(request)
            request.complete = True
        reply = behaviour(line, request)
        if reply is None:
            return False
        line.send(reply.encode(with_body=method != "HEAD"))
        return "close" not in [value.lower() for name, value in reply.headers if name.lower() == "connection"]

    def _usual(self, line: Line, request: Received) -> Reply:
        _, place, *rest = request.path.split("/", 2)
        if place == "_journal":
            with self._lock:
                self._journal[rest[0]].append(json.loads(request.body))
            return Reply(204)
        if place == "_gate":
            self.pass_gate(rest[0])
            return Reply(204)
        return self._replies.get(request.path) or echo(request)


def echo(request: Received) -> Reply:
    """All of a request as JSON."""
    seen = {
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "headers": request.headers,
        "body": request.body.decode("latin-1") if len(request.body) <= 4096 else None,
        "body_size": len(request.body),
        "body_sha256": hashlib.sha256(request.body).hexdigest(),
        "chunked": request.chunked,
    }
    return Reply(200, [("content-type", "application/json")], json.dumps(seen).encode())
