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
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import nats.errors
from nats.aio.client import Server

from nylon.access import AUTH_VARIABLES, Access, AccessClient, completed
from nylon.errors import ConfigError, WorkerError
from nylon.transport import ProtocolFactory, install

logger = logging.getLogger("nylon.worker")

DEFAULT_SERVER = "nats://127.0.0.1:4222"
FIRST_PAUSE = 0.05
"""Seconds before the first attempt to reconnect; doubled with each attempt."""
LONGEST_PAUSE = 0.5
"""Seconds at most between two attempts: a worker is back within a second of its broker."""
PING_INTERVAL = 1
"""Seconds between two looks whether the server is there; one that does not answer three times is left for another."""
REMIND_EVERY = 30.0
"""Seconds between log lines while the broker stays away."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker serves. `servers` and `group` default to NATS_SERVERS (comma separated) and NATS_GROUP.

    Who the worker is to the broker is said in one of four ways: user and password, token, nkey seed, credentials
    file. Each of them, and each file for TLS, defaults to an environment variable, which counts only where
    nothing else says who the worker is. Files are read again at each connect.

    Raises `ConfigError` for a value that cannot work, naming it.
    """

    servers: tuple[str, ...] = ()
    """Broker URLs, such as `nats://localhost:4222` or `tls://user:password@host:4222`; several are one cluster.

    Users in them are taken out, into `user` and `password` (or `token`). One with `tls://` means `tls`."""
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
    """Default: NATS_USER."""
    password: str | None = field(default=None, repr=False)
    """Default: NATS_PASSWORD."""
    token: str | None = field(default=None, repr=False)
    """Default: NATS_TOKEN."""
    credentials: str | None = None
    """A `.creds` file (JWT and nkey seed). Default: NATS_CREDS."""
    nkey_seed: str | None = None
    """A file with an nkey seed. Default: NATS_NKEY."""
    tls: bool = False
    """Whether to insist on TLS. A `tls://` among the servers, or one of the files below, means so too."""
    tls_ca: str | None = None
    """PEM file of the authority that signed the broker's certificate, instead of the system's. Default: NATS_CA."""
    tls_cert: str | None = None
    """PEM file of the worker's own certificate. Default: NATS_CERT."""
    tls_key: str | None = None
    """PEM file of its key. Default: NATS_KEY."""
    tls_hostname: str | None = None
    """The name in the broker's certificate, where it is not the one in the URL. Default: NATS_TLS_HOSTNAME."""
    config: Any = None
    """What the plugin's `initialize` functions get."""
    transport: Literal["hooked", "plain"] = "hooked"
    """`plain` takes messages through nats-py's own callbacks: slower, and free of its private API."""

    def __post_init__(self) -> None:
        given = self.servers
        servers = split_servers(given) if isinstance(given, str) else tuple(given)
        servers = servers or split_servers(os.environ.get("NATS_SERVERS", "")) or (DEFAULT_SERVER,)
        for name, value in completed(vars(self), servers).items():
            object.__setattr__(self, name, value)
        insist = self.tls_ca or self.tls_cert or any(s.startswith(("tls://", "wss://")) for s in servers)
        object.__setattr__(self, "tls", bool(self.tls or insist))
        if not self.group:
            object.__setattr__(self, "group", os.environ.get("NATS_GROUP", ""))
        if not self.group:
            raise ConfigError("a worker needs a group: give group=... or set NATS_GROUP")
        for name in ("concurrency", "threads"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}: it is a number of calls or threads, at least 1")
        if not self.drain_timeout >= 0:
            raise ConfigError(f"drain_timeout is {self.drain_timeout!r}: it is seconds, at least 0")
        for name, choices in (("execution", ("thread", "inline")), ("transport", ("hooked", "plain"))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it is one of {', '.join(choices)}")

    def changed(self, changes: dict[str, Any]) -> Self:
        """The same options but for `changes`. Who the worker is changes as a whole or not at all."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        users = [server for server in changes.get("servers") or () if "@" in server]
        if users or not AUTH_VARIABLES.keys().isdisjoint(changes):
            kept.update(dict.fromkeys(AUTH_VARIABLES))
        return type(self)(**{**kept, **changes})

    @property
    def access(self) -> Access:
        """Who the worker is, and TLS."""
        return Access(**{f.name: getattr(self, f.name) for f in fields(Access)})


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
        self.client = AccessClient(options.access)
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
        self._lost = ""
        self._refusals = 0
        self._refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def servers(self) -> str:
        """The server URLs for the log."""
        return ", ".join(self._options.servers)

    async def connect(self, protocol_factory: ProtocolFactory | None) -> None:
        """Connect, however long that takes.

        Raises `WorkerError` where no waiting helps: every server refuses the worker, or is not to be trusted;
        `ConfigError` for a file that cannot be used.
        """
        options = self._options
        options.access.check()
        if not options.servers[0].startswith(("ws://", "wss://")):
            install(self.client, protocol_factory)
        self._away_since = time.monotonic()
        self._tried = True
        connecting = asyncio.create_task(self.client.connect(**self._arguments()))
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

    async def close(self) -> None:
        """End the connection, if there is one. Does nothing twice."""
        self._connected = False
        if self._tried and not self.client.is_closed:  # nats-py cannot close what never began to connect
            await self.client.close()

    def _arguments(self) -> dict[str, Any]:
        options = self._options
        return {
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
            "ping_interval": PING_INTERVAL,
            **options.access.arguments(),
        }

    def _next_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        """nats-py asks where to reconnect and how long to wait before: in turn, the one that was lost last.

        A node that was lost may take connections and do nothing with them. The pause grows with each round, capped
        and jittered.
        """
        servers = sorted(servers, key=lambda server: server.uri.netloc == self._lost)
        around, turn = divmod(self._attempt, len(servers))
        pause = min(FIRST_PAUSE * 2 ** min(around, 10), LONGEST_PAUSE)
        self._attempt += 1
        return servers[turn], pause * random.uniform(0.5, 1.0)

    async def _on_error(self, error: Exception) -> None:
        if self._connected:
            # A subscription's own trouble (permissions, a slow consumer), not the connection's.
            logger.error("the broker reports: %s", describe(error))
            return
        refusal = self._options.access.refusal(error)
        self._refusals += refusal is not None
        if not self._refused.done() and refusal and self._refusals >= len(self._options.servers):
            # They are tried in turn: none is left that could let the worker in.
            self._refused.set_result(f"the broker at {self.servers}: {refusal} ({describe(error)})")
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
        self._lost = self.client.last_server
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
