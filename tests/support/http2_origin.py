"""A server behind the gateway that speaks HTTP/2, with trailers both ways, plain or over TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, TrailersReceived, WindowUpdated
from h2.exceptions import ProtocolError

from support.client import Address


@dataclass
class Http2Request:
    """A request as the origin got it."""

    headers: list[tuple[str, str]]
    """Pseudo-header fields included."""
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    connection: int = 0
    """Which connection it came on, counted from 1."""

    def header(self, name: str) -> str | None:
        """The only value of a field, or None. Fails if it is repeated."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


@dataclass
class Http2Reply:
    """What the origin answers."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)


def echo(request: Http2Request) -> Http2Reply:
    """The body that came."""
    return Http2Reply(body=request.body)


class Http2Origin:
    """Answers every request as `behave` was told for its path, else with its body. A context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._tls = tls
        self._behaviours: dict[str, Callable[[Http2Request], Http2Reply]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests: list[Http2Request] = []
        self.connections = 0
        self._open: list[socket.socket] = []

    @property
    def address(self) -> Address:
        host, port = self._listener.getsockname()
        return host, port

    def behave(self, path: str, behaviour: Callable[[Http2Request], Http2Reply]) -> None:
        """Answer requests for `path` like this from now on."""
        self._behaviours[path] = behaviour

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread that waits in accept() is woken by this, and not by closing.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        # However a connection ends, that is up to the gateway.
        with contextlib.suppress(OSError, ProtocolError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._open.append(connection)
            Serving(self, connection, number).run()

    def reply(self, request: Http2Request) -> Http2Reply:
        """Remembers a request, and answers it."""
        self.requests.append(request)
        path = (request.header(":path") or "").partition("?")[0]
        return self._behaviours.get(path, echo)(request)


class Serving:
    """One connection of an origin."""

    def __init__(self, origin: Http2Origin, connection: socket.socket, number: int) -> None:
        self.origin, self.socket, self.number = origin, connection, number
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self.requests: dict[int, Http2Request] = {}
        self.unsent: dict[int, tuple[memoryview, list[tuple[str, str]]]] = {}

    def run(self) -> None:
        """Serves until the other side ends it."""
        self.h2.initiate_connection()
        self.socket.sendall(self.h2.data_to_send())
        while data := self.socket.recv(65536):
            for event in self.h2.receive_data(data):
                self._handle(event)
            if out := self.h2.data_to_send():
                self.socket.sendall(out)

    def _handle(self, event: object) -> None:
        match event:
            case RequestReceived():
                fields = [(str(name), str(value)) for name, value in event.headers]
                self.requests[event.stream_id] = Http2Request(fields, connection=self.number)
            case DataReceived():
                self.requests[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case TrailersReceived():
                trailers = [(str(name), str(value)) for name, value in event.headers]
                self.requests[event.stream_id].trailers = trailers
            case StreamEnded():
                self._answer(event.stream_id)
            case WindowUpdated():
                for stream in list(self.unsent):
                    self._send(stream)
            case _:
                pass

    def _answer(self, stream: int) -> None:
        reply = self.origin.reply(self.requests.pop(stream))
        head = [(":status", str(reply.status)), *reply.headers]
        self.h2.send_headers(stream, head, end_stream=not reply.body and not reply.trailers)
        if reply.body or reply.trailers:
            self.unsent[stream] = memoryview(reply.body), reply.trailers
            self._send(stream)

    def _send(self, stream: int) -> None:
        body, trailers = self.unsent[stream]
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
            if room == 0:
                self.unsent[stream] = body, trailers
                return
            self.h2.send_data(stream, bytes(body[:room]), end_stream=not trailers and room == len(body))
            body = body[room:]
        if trailers:
            self.h2.send_headers(stream, trailers, end_stream=True)
        del self.unsent[stream]
