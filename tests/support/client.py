"""An HTTP/1.1 client that sends exactly what it is told and shows exactly what came back.

Libraries put headers right, follow redirects and hide how a connection ended; all of that is what these tests look
at. Header values are decoded as Latin-1 here, so that no byte gets lost.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

Address = tuple[str, int]
Fields = Iterable[tuple[str, str]] | Mapping[str, str]


class Truncated(Exception):
    """The connection ended before the message was complete; `received` is what came of the body (or the head)."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"the connection ended after {len(received)} bytes")
        self.received = received


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int] = field(default_factory=list)
    """The statuses of the 1xx responses before it."""

    def header(self, name: str) -> str | None:
        """The only value of a field, or None. Fails if it is repeated."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """The values of a field, line by line."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request_bytes(
    method: str, target: str, headers: Fields = (), body: bytes | None = None, *, host: str = "localhost"
) -> bytes:
    """A request as it goes on the wire; adds `host`, and `content-length` for a body, unless they are given."""
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {name.lower() for name, _ in fields}
    if "host" not in names:
        fields.insert(0, ("host", host))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        fields.append(("content-length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


def chunked(*chunks: bytes) -> bytes:
    """A body in chunked coding, one chunk per argument."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


class Connection:
    """One connection to the gateway, over TLS where `tls` is given. Every wait ends after `timeout` seconds.

    A context manager. A TLS connection that ends without a `close_notify` raises `ssl.SSLEOFError` when it is read.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 10.0,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            plain = self.socket
            try:
                self.socket = tls.wrap_socket(
                    plain, server_hostname=server_name, suppress_ragged_eofs=False, session=session
                )
            except BaseException:
                plain.close()
                raise
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it in good order."""
        self.socket.close()

    def reset(self) -> None:
        """End it with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send these very bytes."""
        self.socket.sendall(data)

    def finish_sending(self) -> None:
        """Close the sending half."""
        self.socket.shutdown(socket.SHUT_WR)

    def request(self, method: str, target: str, headers: Fields = (), body: bytes | None = None) -> Answer:
        """Send one request and read its answer."""
        self.send(request_bytes(method, target, headers, body))
        return self.read_answer(method)

    def read_answer(self, to_method: str = "GET") -> Answer:
        """Read one response. Raises `Truncated` if the connection ends inside it."""
        interim: list[int] = []
        while True:
            status, reason, version, headers = self.read_head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        body = self._read_body(status, headers, to_method)
        return Answer(status, reason, version, headers, body, interim)

    def read_head(self) -> tuple[int, str, str, list[tuple[str, str]]]:
        """Read a response's head: status, reason, version, fields."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill(b"")
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, tail = first.partition(" ")
        status, _, reason = tail.partition(" ")
        pairs = [line.partition(":") for line in lines]
        return int(status), reason, version, [(name, value.strip(" \t")) for name, _, value in pairs]

    def read_exactly(self, size: int) -> bytes:
        """Read `size` bytes. Raises `Truncated` if they do not come."""
        while len(self._buffer) < size:
            self._fill(bytes(self._buffer))
        data, self._buffer = bytes(self._buffer[:size]), self._buffer[size:]
        return data

    def read_chunk(self) -> bytes:
        """Read one chunk of a chunked body; empty for the last one (trailers are skipped)."""
        size = int(self._read_line().split(b";")[0], 16)
        if size == 0:
            while self._read_line():
                pass
            return b""
        data = self.read_exactly(size)
        self._read_line()
        return data

    def read_until_closed(self) -> bytes:
        """Everything until the other side ends the connection, in good order or with a reset."""
        with contextlib.suppress(Truncated):
            while True:
                self._fill(b"")
        data, self._buffer = bytes(self._buffer), bytearray()
        return data

    def _read_body(self, status: int, headers: list[tuple[str, str]], method: str) -> bytes:
        fields = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in (101, 204, 304):
            return b""
        if "transfer-encoding" in fields:
            assert fields["transfer-encoding"] == "chunked", fields
            assert "content-length" not in fields, fields
            whole = bytearray()
            while True:
                try:
                    chunk = self.read_chunk()
                except Truncated as error:
                    raise Truncated(bytes(whole) + error.received) from None
                if not chunk:
                    return bytes(whole)
                whole += chunk
        if "content-length" in fields:
            return self.read_exactly(int(fields["content-length"]))
        return self.read_until_closed()

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill(b"")
        line, _, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer = bytearray(rest)
        return line

    def _fill(self, received: bytes) -> None:
        try:
            data = self.socket.recv(262144)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            raise Truncated(received)
        self._buffer += data


def fetch(
    address: Address, method: str, target: str, headers: Fields = (), body: bytes | None = None
) -> Answer:
    """One request on a connection of its own."""
    with Connection(address) as connection:
        return connection.request(method, target, headers, body)


def exchange_bytes(address: Address, data: bytes) -> bytes:
    """Send bytes and return everything that comes back until the other side closes, within a few seconds."""
    with Connection(address, timeout=5.0) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.send(data)
        return connection.read_until_closed()
