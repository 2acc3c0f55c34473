"""An HTTP/2 client whose every frame a test decides on, and which shows how each stream and the connection ended.

The `h2` library keeps the protocol's state; its checks of what is sent are off, so that a test may send what no
client should. Field values are decoded as Latin-1, so that no byte gets lost.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from support.client import Address, Answer, Fields

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One frame as it goes on the wire."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
)


class Reset(Exception):
    """A stream ended before its response was complete; `code` says why."""

    def __init__(self, code: ErrorCodes | int | None) -> None:
        super().__init__(str(code))
        self.code = code


@dataclass
class Stream:
    """What came on one stream so far."""

    status: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[str, str]] | None = None
    interim: list[int] = field(default_factory=list)
    ended: bool = False
    reset: ErrorCodes | int | None = None


class Http2Connection:
    """One connection to the gateway, over TLS with ALPN where a context is given. A context manager."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "localhost",
        timeout: float = 10.0,
        window: int | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname=server_name)
        except BaseException:
            self.socket.close()
            raise
        self.scheme = "http" if tls is None else "https"
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.streams: dict[int, Stream] = {}
        self.goaway: list[int] = []
        """The codes of the GOAWAY frames that came."""
        self.last_stream: int | None = None
        """The last of the streams that the server says it has seen."""
        self.closed = False
        """Whether the server has ended the connection."""
        self.pongs = 0
        """How many of its pings were answered."""
        self.reads = True
        """Whether windows are opened again for what came."""
        self._received = b""
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it without a word."""
        self.socket.close()

    # ── sending ──

    def send(self, data: bytes) -> None:
        """Send these very bytes, of which `h2` knows nothing."""
        self.socket.sendall(data)

    def flush(self) -> None:
        """Send what `h2` has for the server."""
        if data := self.h2.data_to_send():
            self.socket.sendall(data)

    def begin(
        self,
        method: str,
        path: str,
        headers: Fields = (),
        *,
        authority: str | None = "localhost",
        end: bool = True,
    ) -> int:
        """Send a request's head; the stream's number."""
        fields = [(":method", method), (":scheme", self.scheme), (":path", path)]
        if authority is not None:
            fields.insert(2, (":authority", authority))
        fields.extend(headers.items() if hasattr(headers, "items") else headers)
        stream = self.h2.get_next_available_stream_id()
        self.streams[stream] = Stream()
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush()
        return stream

    def send_body(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send a body or a part of it, as fast as the server opens its windows."""
        view = memoryview(data)
        while view:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(view))
            if room == 0:
                self._receive()
                if self.closed or self.streams[stream].reset is not None:
                    return
                continue
            self.h2.send_data(stream, bytes(view[:room]), end_stream=end and room == len(view))
            self.flush()
            view = view[room:]
        if not data and end:
            self.h2.end_stream(stream)
            self.flush()

    def send_trailers(self, stream: int, fields: list[tuple[str, str]]) -> None:
        """End a request with trailers."""
        self.h2.send_headers(stream, fields, end_stream=True)
        self.flush()

    def cancel(self, stream: int) -> None:
        """Take a request back."""
        self.h2.reset_stream(stream, ErrorCodes.CANCEL)
        self.flush()

    # ── receiving ──

    def request(
        self,
        method: str,
        path: str,
        headers: Fields = (),
        body: bytes | None = None,
        *,
        authority: str | None = "localhost",
    ) -> Answer:
        """Send one request and read its answer."""
        stream = self.begin(method, path, headers, authority=authority, end=body is None)
        if body is not None:
            self.send_body(stream, body)
        return self.answer(stream)

    def answer(self, stream: int) -> Answer:
        """The whole response on a stream. Raises `Reset` where it does not come to its end."""
        seen = self.streams[stream]
        self.until(lambda: seen.ended or seen.reset is not None)
        # A response that was complete before the request was is followed by RST_STREAM(NO_ERROR).
        if not seen.ended or seen.status is None:
            raise Reset(seen.reset)
        return Answer(seen.status, "", "HTTP/2", seen.headers, bytes(seen.body), seen.interim)

    def until(self, condition: Callable[[], bool]) -> None:
        """Receive until the condition holds or the server ends the connection."""
        while not condition() and not self.closed:
            self._receive()

    def await_end(self) -> list[int]:
        """Receive until the server ends the connection; the codes of its GOAWAY frames."""
        self.until(lambda: False)
        return self.goaway

    def flood(self, piece: bytes, pieces: int) -> list[int]:
        """Send a piece so often, or until the server ends the connection; the codes of its GOAWAY frames."""
        for _ in range(pieces):
            try:
                self.send(piece)
            except ConnectionError:
                break
            if select.select([self.socket], [], [], 0)[0]:
                self._receive()
            if self.closed or self.goaway:
                break
        return self.await_end()

    def ping(self) -> None:
        """Wait until the server has seen all that was sent so far."""
        before = self.pongs
        self.h2.ping(b"whatever")
        self.flush()
        self.until(lambda: self.pongs > before)

    def _receive(self) -> None:
        try:
            data = self.socket.recv(262144)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.closed = True
            return
        self._received += data
        while len(self._received) >= 9 and len(self._received) >= 9 + (
            length := int.from_bytes(self._received[:3], "big")
        ):
            whole, self._received = self._received[: 9 + length], self._received[9 + length :]
            if whole[3] == GOAWAY:
                # `h2` would take nothing any more, but what is in flight is still answered behind it.
                self.last_stream = int.from_bytes(whole[9:13], "big")
                self.goaway.append(int.from_bytes(whole[13:17], "big"))
                continue
            for event in self.h2.receive_data(whole):
                self._handle(event)
        # The server may have ended its side already.
        with contextlib.suppress(ConnectionError):
            self.flush()

    def _handle(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                stream = self.streams[event.stream_id]
                fields = [(str(name), str(value)) for name, value in event.headers]
                stream.status = int(fields[0][1])
                stream.headers = fields[1:]
            case InformationalResponseReceived():
                self.streams[event.stream_id].interim.append(int(event.headers[0][1]))
            case DataReceived():
                self.streams[event.stream_id].body += event.data
                if self.reads and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case TrailersReceived():
                self.streams[event.stream_id].trailers = [(str(n), str(v)) for n, v in event.headers]
            case StreamEnded():
                self.streams[event.stream_id].ended = True
            case StreamReset():
                self.streams[event.stream_id].reset = event.error_code
            case PingAckReceived():
                self.pongs += 1
            case _:
                pass
