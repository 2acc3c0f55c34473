"""Puts the worker's byte path in front of nats-py's.

nats-py owns the connection: connect, authentication, TLS, reconnect, drain. This transport only places a protocol
of ours between the socket and the stream that nats-py reads, so that the worker's own messages are dispatched
in `data_received` and never pass nats-py's parser and queues; all other bytes go on as they came.

`Client._transport`, `TcpTransport` and `Client._send_unsubscribe` are nats-py's private API, hence the narrow version
range in pyproject.toml and the contract tests in tests/failure/test_worker_connection.py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

ProtocolFactory = Callable[[asyncio.BaseTransport, asyncio.BaseProtocol], asyncio.BaseProtocol]

CLOSE_TIMEOUT = 0.5
"""Seconds that a connection gets to end in good order."""


class BoundedTransport(TcpTransport):
    """nats-py's transport, whose end does not wait for the other side.

    A server that is frozen takes no more bytes, and nats-py does not reconnect before its connection has sent them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nats-py does not annotate it

    def __bool__(self) -> bool:
        """True also before the first connect, where nats-py would else put a transport of its own here."""
        return True

    async def wait_closed(self) -> None:
        """Wait until it is closed, or for a moment, and then cut it."""
        try:
            await asyncio.wait_for(super().wait_closed(), CLOSE_TIMEOUT)  # type: ignore[no-untyped-call]
        except TimeoutError:
            if self._io_writer is not None:
                self._io_writer.transport.abort()


class HookedTransport(BoundedTransport):
    """A TCP or TLS connection whose bytes pass `protocol_factory(transport, nats-py's protocol)` first."""

    def __init__(self, protocol_factory: ProtocolFactory) -> None:
        super().__init__()
        self._protocol_factory = protocol_factory

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect as nats-py does, then step in between."""
        await super().connect(uri, buffer_size, connect_timeout)
        self._step_in()

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Upgrade to TLS as nats-py does: that makes a new stream, so step in there again."""
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        self._step_in()

    def _step_in(self) -> None:
        writer = self._io_writer
        assert writer is not None, "TcpTransport.connect and connect_tls set the writer or raise"
        transport = writer.transport
        protocol = transport.get_protocol()
        if protocol is None or transport.is_closing():
            # Lost while it was made: for nats-py one failed attempt more, where another exception ends its attempts.
            raise ConnectionResetError("the broker closed the connection at once")
        transport.set_protocol(self._protocol_factory(transport, protocol))


def install(client: Client, protocol_factory: ProtocolFactory | None) -> None:
    """Make `client`, which has not connected yet, use a `HookedTransport`, or without a factory the one below it."""
    client._transport = HookedTransport(protocol_factory) if protocol_factory else BoundedTransport()


async def round_trip(client: Client) -> None:
    """Return when the broker has done all that it was told before.

    nats-py's `flush` writes its PING at once, past what waits for the next turn of the loop: subscriptions, their ends,
    publications. So only a second one is behind them for sure.
    """
    await client.flush()
    await client.flush()


async def drain(client: Client, subscription: Subscription) -> None:
    """End a subscription, and return when the last of its messages has been handed over.

    nats-py's own drain forgets the subscription after one PING, and then throws away what still comes.
    """
    await client._send_unsubscribe(subscription._id)
    await round_trip(client)
    await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py does not annotate it
