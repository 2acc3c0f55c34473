"""A worker's connection to the broker: what it needs to know, how it is kept, what the log says of it.

nats-py's defaults give up after 60 attempts and wait two seconds between them. A worker never gives up: it
reconnects with a short, jittered, capped pause, and says once that the broker is away, not at every attempt.
Only what no waiting can cure ends it: refused credentials at the first connect, or a broker that ended the
connection for good.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import nats.errors
from nats.aio.client import Client, Server

from nylon.errors import ConfigError, WorkerError
from nylon.transport import ProtocolFactory, install

logger = logging.getLogger("nylon.worker")

DEFAULT_SERVER = "nats://127.0.0.1:4222"
FIRST_PAUSE = 0.05
"""Seconds before the first attempt to reconnect; doubled with each attempt."""
LONGEST_PAUSE = 0.5
"""Seconds at most between two attempts: a worker is back within a second of its broker."""
REMIND_EVERY = 30.0
"""Seconds between log lines while the broker stays away."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker serves. `servers` and `group` default to NATS_SERVERS (comma separated) and NATS_GROUP.

    Raises `ConfigError` for a value that cannot work, naming it.
    """

    servers: tuple[str, ...] = ()
    """Broker URLs, such as `nats://localhost:4222` or `tls://user:password@host:4222`."""
    group: str = ""
    """The queue group: `group` of the gateway's plugin."""
    concurrency: int = 64
    """Calls that run at once; further ones are answered `busy`."""
    execution: Literal["thread", "inline"] = "thread"
    """Where `def` handlers run: in a pool, or on the loop (only for handlers that never block)."""
    threads: int = 4
    """The pool's size."""
    subject_prefix: str = "nylon"
    """First part of every subject: `subject_prefix` of the gateway's messaging."""
    drain_timeout: float = 30.0
    """Seconds that handlers and sessions get to finish when the worker is asked to stop."""
    name: str | None = None
    """Shown in the broker's connection list; by default the group and the worker's id."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: str | None = None
    """A `.creds` file (JWT and nkey seed)."""
    nkey_seed: str | None = None
    """A file with an nkey seed."""
    tls_ca: str | None = None
    """PEM file of the authority that signed the broker's certificate, where the system does not know it."""
    tls_cert: str | None = None
    tls_key: str | None = None
    """Client certificate and key, PEM files."""
    tls_hostname: str | None = None
    """The name in the broker's certificate, where it is not the one in the URL."""
    config: Any = None
    """What the plugin's `initialize` functions get."""
    transport: Literal["hooked", "plain"] = "hooked"
    """`plain` takes messages through nats-py's own callbacks: slower, and free of its private API."""

    def __post_init__(self) -> None:
        if isinstance(self.servers, str):
            object.__setattr__(self, "servers", split_servers(self.servers))
        else:
            object.__setattr__(self, "servers", tuple(self.servers))
        if not self.servers:
            servers = split_servers(os.environ.get("NATS_SERVERS", "")) or (DEFAULT_SERVER,)
            object.__setattr__(self, "servers", servers)
        if not self.group:
            object.__setattr__(self, "group", os.environ.get("NATS_GROUP", ""))
        if not self.group:
            raise ConfigError("a worker needs a group: give group=... or set NATS_GROUP")
        for field in ("concurrency", "threads"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{field} is {value!r}: it is a number of calls or threads, at least 1")
        if not self.drain_timeout >= 0:
            raise ConfigError(f"drain_timeout is {self.drain_timeout!r}: it is seconds, at least 0")
        for field, choices in (("execution", ("thread", "inline")), ("transport", ("hooked", "plain"))):
            if getattr(self, field) not in choices:
                raise ConfigError(f"{field} is {getattr(self, field)!r}: it is one of {', '.join(choices)}")

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS settings, or None where no TLS option is given and no URL asks for TLS."""
        wanted = self.tls_ca or self.tls_cert or any(s.startswith(("tls://", "wss://")) for s in self.servers)
        if not wanted:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert:
                context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            files = [f for f in (self.tls_ca, self.tls_cert, self.tls_key) if f]
            raise ConfigError(f"cannot use the TLS files {', '.join(files)}: {error}") from error
        return context


def split_servers(text: str) -> tuple[str, ...]:
    """`"nats://a, nats://b"` as a tuple; empty parts are dropped."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


class Broker:
    """One nats-py connection, kept for a worker's life.

    `online(client)` is awaited after the connection is back (subscriptions are in place again), not after the
    first connect; `offline()` is called when it is lost.
    """

    def __init__(
        self,
        options: WorkerOptions,
        worker: str,
        online: Callable[[], Awaitable[None]],
        offline: Callable[[], None],
    ) -> None:
        self.client = Client()
        self.closed = asyncio.Event()
        """Set when the connection has ended for good, wanted or not."""
        self._options = options
        self._worker = worker
        self._online = online
        self._offline = offline
        self._attempt = 0
        self._tried = False
        self._connected = False
        self._away_since = 0.0
        self._said = 0.0
        self._refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def servers(self) -> str:
        """The server URLs for the log, without credentials."""
        return ", ".join(without_credentials(server) for server in self._options.servers)

    async def connect(self, protocol_factory: ProtocolFactory | None) -> None:
        """Connect, however long that takes; `WorkerError` if the broker refuses the credentials."""
        options = self._options
        if protocol_factory is not None and not options.servers[0].startswith(("ws://", "wss://")):
            install(self.client, protocol_factory)
        self._away_since = time.monotonic()
        self._tried = True
        connecting = asyncio.create_task(self._connect(self._arguments()))
        try:
            waited: set[asyncio.Future[Any]] = {connecting, self._refused}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done():
                raise WorkerError(self._refused.result())
            await connecting
        finally:
            connecting.cancel()
            self._refused.cancel()  # from now on a refusal may be a change under way: the worker waits it out
        self._connected = True
        if self._said:
            logger.info("connected to the broker after %.1f s", time.monotonic() - self._away_since)
        self._said = 0.0

    async def _connect(self, arguments: Mapping[str, Any]) -> None:
        try:
            await self.client.connect(**arguments)
        except ImportError as error:
            why = f"credentials with nkeys need the package nkeys ({error}): pip install nkeys"
            raise WorkerError(why) from error

    async def close(self) -> None:
        """End the connection, if there is one. Does nothing twice."""
        self._connected = False
        if self._tried and not self.client.is_closed:  # nats-py cannot close what never began to connect
            await self.client.close()

    def _arguments(self) -> dict[str, Any]:
        options = self._options
        arguments: dict[str, Any] = {
            "servers": list(options.servers),
            "name": options.name or f"nylon worker {options.group} {self._worker}",
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_closed,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": LONGEST_PAUSE * random.uniform(0.5, 1.0),
            "reconnect_to_server_handler": self._next_server,
            "connect_timeout": 2,
            "ping_interval": 20,
            "user": options.user,
            "password": options.password,
            "token": options.token,
            "user_credentials": options.credentials,
            "nkeys_seed": options.nkey_seed,
        }
        context = options.ssl_context()
        if context is not None:
            arguments["tls"] = context
        if options.tls_hostname:
            arguments["tls_hostname"] = options.tls_hostname
        return arguments

    def _next_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        """nats-py asks where to reconnect and how long to wait before: in turn, capped and jittered."""
        pause = min(FIRST_PAUSE * 2 ** min(self._attempt, 10), LONGEST_PAUSE)
        server = servers[self._attempt % len(servers)]
        self._attempt += 1
        return server, pause * random.uniform(0.5, 1.0)

    async def _on_error(self, error: Exception) -> None:
        if self._connected:
            # A subscription's own trouble (permissions, a slow consumer), not the connection's.
            logger.error("the broker reports: %s", describe(error))
            return
        text = str(error).lower()
        if not self._refused.done() and ("authorization" in text or "authentication" in text):
            self._refused.set_result(
                f"the broker at {self.servers} refuses these credentials ({describe(error)}): "
                "check user and password, token, or the credentials file"
            )
            return
        now = time.monotonic()
        away = now - self._away_since
        if not self._said:
            logger.warning("no broker at %s (%s); trying until there is one", self.servers, describe(error))
        elif now - self._said >= REMIND_EVERY:
            logger.warning("still no broker at %s after %.0f s (%s)", self.servers, away, describe(error))
        else:
            return
        self._said = now

    async def _on_disconnected(self) -> None:
        if not self._connected:
            return
        self._connected = False
        self._away_since = time.monotonic()
        self._offline()
        if not self.client.is_closed and not self.client.is_draining:
            logger.warning("lost the broker at %s; reconnecting", self.servers)
            self._said = self._away_since

    async def _on_reconnected(self) -> None:
        self._connected = True
        self._attempt = 0
        self._said = 0.0
        logger.info("the broker is back after %.1f s", time.monotonic() - self._away_since)
        try:
            await self._online()
        except nats.errors.Error as error:
            # Lost again in between: the next reconnect says it all again.
            logger.warning("the broker went away again: %s", describe(error))

    async def _on_closed(self) -> None:
        self._connected = False
        self._offline()
        self.closed.set()


def describe(error: BaseException | str) -> str:
    """One line for the log: what nats-py reports is at times only a type without a text."""
    text = str(error).removeprefix("nats: ").strip()
    return text or type(error).__name__


def without_credentials(server: str) -> str:
    """The URL as it may stand in a log."""
    scheme, separator, rest = server.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
