"""The Rust half of Nylon.

What users need of it is exported by `nylon` and documented here; the rest serves Nylon's own Python half and may
change in any version.
"""

import os
from asyncio import BaseProtocol, BaseTransport, Task
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, final, overload

from nylon.plugin import NylonPlugin
from nylon.stepper import Stepper

__all__ = [
    "BrokerServers",
    "ConfigCheck",
    "Context",
    "Diagnostic",
    "GatewayCore",
    "Headers",
    "LoopQueue",
    "PhaseHandler",
    "PluginProcess",
    "Registry",
    "Request",
    "Response",
    "ResponseStream",
    "TestExchange",
    "TestHost",
    "TestSession",
    "Worker",
    "WorkerProtocol",
    "_error_names",
    "_finish",
    "_suspend",
    "check_config",
    "control_socket",
    "json_schema",
    "sign_with_creds",
    "sign_with_nkey",
    "start_logging",
    "version",
]

_T = TypeVar("_T")
_HandlerT = TypeVar("_HandlerT", bound=Callable[[Context], Any])
_Bytes = bytes
_Body = bytes | bytearray | memoryview | str

version: Final[str]
"""The version of Nylon."""

# ---- what a handler sees ----

@final
class Context:
    """What a handler gets: one phase of one exchange, and the decision about it.

    After the phase, or after its time-out, every property and method raises `ContextClosed`: copy what you need
    later. Mutations apply when the handler returns; if it raises or comes too late, none of them does.
    """

    @property
    def request(self) -> Request:
        """The request. Writable in `request_filter` only."""

    @property
    def response(self) -> Response:
        """The response: a draft in `request_filter` (only `end` sends it), then the service's."""

    @property
    def payload(self) -> Any:
        """The middleware's payload from the configuration, a fresh copy per call; None where there is none."""

    @property
    def state(self) -> dict[str, Any]:
        """What this session's handlers hand from phase to phase. Change it in place.

        It travels as MessagePack on every host: None, bool, int, float, str, bytes, list and dict, at most 64 KiB
        in all. Anything else fails the handler with `StateError` when it returns (keep it in a closure of the
        entry's `setup` function instead). Tuples come back as lists. What a failing handler changed is dropped.
        """

    @property
    def params(self) -> dict[str, str]:
        """What the route's path pattern captured, percent-decoded; the same as `ctx.request.params`."""

    @property
    def request_id(self) -> str:
        """The request's name: 32 hex digits, as in logs and in the error bodies that clients get."""

    @property
    def attempt(self) -> int:
        """1 for the first try of this call, more where a worker was lost and the call was sent again."""

    @property
    def phase(self) -> Literal["request_filter", "response_filter", "response_body_filter", "logging"]:
        """The phase that this call is for."""

    @property
    def logger(self) -> Any:
        """A `logging.LoggerAdapter` whose records name plugin, entry and request id. Usable after the phase."""

    @property
    def chunk(self) -> bytes:
        """The part of the response body that a `stream=True` handler is called for; assign what goes on instead.

        Raises:
            PhaseError: anywhere else.
        """

    @chunk.setter
    def chunk(self, value: _Body) -> None: ...
    @property
    def end_of_stream(self) -> bool:
        """Whether this chunk is the last one. Raises `PhaseError` where there are no chunks."""

    def next(self) -> None:
        """Decides to go on.

        Raises:
            DecisionError: the handler has decided already.
        """

    def end(self) -> None:
        """Decides to stop here and send `ctx.response`.

        Raises:
            DecisionError: the handler has decided already.
        """

@final
class Request:
    """The request of an exchange. What is written here (in `request_filter`) is what the service gets."""

    @property
    def method(self) -> str:
        """The method, `GET`. Assigning what is no token, or CONNECT, raises `InvalidValueError`."""

    @method.setter
    def method(self, value: str) -> None: ...
    @property
    def url(self) -> str:
        """`scheme://host/path?query`, percent-encoded."""

    @property
    def path(self) -> str:
        """The path, percent-encoded as received. Assign a percent-encoded one that starts with `/`."""

    @path.setter
    def path(self, value: str) -> None: ...
    @property
    def query(self) -> str:
        """The query without its `?`, percent-encoded; empty where there is none. Assigning `""` removes it."""

    @query.setter
    def query(self, value: str) -> None: ...
    @property
    def query_params(self) -> dict[str, list[str]]:
        """The query parsed: each name with all its values in order, decoded, blank ones kept."""

    @property
    def params(self) -> dict[str, str]:
        """What the route's path pattern captured, percent-decoded."""

    @property
    def host(self) -> str:
        """Host, and port where the client named one: `example.com:8080`."""

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the client used it."""

    @property
    def http_version(self) -> str:
        """`1.0`, `1.1` or `2`."""

    @property
    def client_ip(self) -> str:
        """The client's address: the connection's, or the one that a trusted proxy reports."""

    @property
    def timestamp(self) -> float:
        """When the head was complete: seconds since the epoch, as `time.time()` counts."""

    @property
    def bytes(self) -> int:
        """The size of the body: as read, else as its `content-length` says, else 0."""

    @property
    def headers(self) -> Headers:
        """The header fields, hop-by-hop ones removed. Writable in `request_filter`."""

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name, surrounding quotes removed; of a repeated name the first."""

    def body(self) -> _Bytes:
        """The body.

        Raises:
            BodyError: it has not been read. Register the handler with `body=True`, or `await read()`.
        """

    def json(self) -> Any:
        """The body, decoded from JSON.

        Raises:
            BodyError: as `body`.
            ValueError: it is no JSON (`json.JSONDecodeError`).
        """

    def read(self) -> Awaitable[_Bytes]:
        """The body, to be awaited: at once where it is here, else the gateway reads it now.

        Waiting for the client moves the phase's deadline back. Only in an `async def` handler that is not inline.

        Raises:
            BodyError: it is too large, the client did not deliver it, or nobody can be asked here.
        """

    def set_body(self, body: _Body) -> Self:
        """Replaces the body (`str` as UTF-8); `content-length` is put right by the gateway."""

@final
class Response:
    """The response of an exchange. Setters return the response, so that they chain."""

    @property
    def status(self) -> int:
        """The status; 200 in a draft that nobody has set."""

    @property
    def headers(self) -> Headers:
        """The header fields. Writable until the head is sent."""

    @property
    def bytes(self) -> int:
        """The size of the body: in `logging` what was sent, before that as known (0 where it is not)."""

    @property
    def duration(self) -> float | None:
        """Seconds from the complete request head to the last byte. None before `logging`."""

    @property
    def error(self) -> str | None:
        """Why the exchange failed, in `logging`; None where it did not."""

    def set_status(self, status: int) -> Self:
        """Sets the status, 200 to 599 (else `InvalidValueError`)."""

    def set_header(self, name: str, value: str) -> Self:
        """Replaces all values of a field."""

    def add_header(self, name: str, value: str) -> Self:
        """Adds a value to a field."""

    def remove_header(self, name: str) -> Self:
        """Removes a field, if it is there."""

    def body_raw(self, body: _Body) -> Self:
        """Replaces the body and leaves the content type alone."""

    def body_text(self, body: str) -> Self:
        """Replaces the body; `text/plain; charset=utf-8` unless this handler has set a content type."""

    def body_html(self, body: str) -> Self:
        """Replaces the body; `text/html; charset=utf-8` unless this handler has set a content type."""

    def body_json(self, value: Any) -> Self:
        """Replaces the body by compact JSON; `application/json` unless this handler has set a content type.

        Raises:
            TypeError: `json.dumps` cannot encode the value.
        """

    def redirect(self, url: str, code: int = 302) -> Self:
        """Sets status and `location`. What may not stand in a URL is percent-encoded.

        Raises:
            InvalidValueError: the code is not 301, 302, 303, 307 or 308.
        """

    def read_body(self) -> _Bytes:
        """The body: the service's in a `response_body_filter`, or the one that a handler has set.

        Raises:
            BodyError: it streams past and has not been read.
        """

    def stream(self) -> ResponseStream:
        """Ends the request like `ctx.end()`, sends the head as it is now, and lets the handler write the body.

        From here on request, response and state can be read and not changed. A body that was set before is dropped.

        Raises:
            PhaseError: not in `request_filter`.
            DecisionError: the handler has decided already.
        """

@final
class ResponseStream:
    """A response that its handler is writing. A context manager, with and without `async`: its end is `end()`.

    In an `async def` handler `write` is awaited, in a `def` handler it blocks; either way it returns once there is
    room, so a slow client holds the handler back. An inline handler must not wait: what it writes goes out when it
    returns, at most 128 KiB and one write.

    A handler that raises, or returns without `end()`, leaves a body that is visibly broken off. One that writes nothing
    for as long as its phase's `timeout_ms` does too.
    """

    def write(self, data: _Body) -> Awaitable[None]:
        """Sends bytes, or `str` as UTF-8. Small writes may travel together. One write at a time.

        Raises:
            StreamClosed: nobody takes any more of it: the client went away, or no body may follow (HEAD, 204, 304).
            BodyError: after `end()`, while the write before is not awaited, or where an inline handler would wait.
        """

    def end(self) -> Awaitable[None]:
        """Completes the body. Never waits; awaiting it is possible and not needed.

        Raises:
            StreamClosed: nobody takes any more of it.
        """

    @property
    def closed(self) -> bool:
        """Whether nobody takes any more of it. The next `write` raises."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Awaitable[None]: ...

@final
class Headers(MutableMapping[str, str]):
    """The header fields of a request or a response.

    Names are case-insensitive and come out in lower case. Values are `str`: UTF-8, and bytes that are none survive
    as surrogate escapes, both ways. A field that is repeated reads as one value joined with `", "` (`cookie` with
    `"; "`; `set-cookie` is never joined: its first value); `get_all` gives each.

    Writing raises `PhaseError` where the phase does not allow it and `InvalidValueError` where name or value is not
    legal (a line break, say).
    """

    def __getitem__(self, key: str, /) -> str: ...
    def __setitem__(self, key: str, value: str, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    @overload
    def get(self, name: str, default: _T) -> str | _T: ...
    def get_all(self, name: str) -> list[str]:
        """Each value of a field in order; empty where there is none."""

    def add(self, name: str, value: str) -> None:
        """Adds a value to a field."""

    def keys(self) -> list[str]:  # type: ignore[override]
        """The names, each once."""

    def values(self) -> list[str]:  # type: ignore[override]
        """The values, joined per name."""

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
        """Names with their joined values."""

    def setdefault(self, name: str, default: str) -> str:
        """The field's value, set to `default` first where there is none."""

    def pop(self, name: str, /, *default: _T) -> str | _T:
        """Removes a field and gives its joined value, else the default, else raises `KeyError`."""

    def update(  # type: ignore[override]
        self, other: Mapping[str, str] | Iterable[tuple[str, str]] | None = None, /, **fields: str
    ) -> None:
        """Sets each field given."""

    def clear(self) -> None:
        """Removes all fields."""

# ---- what a plugin registers ----

@final
class PhaseHandler:
    """What a `setup` function gets: it registers at most one handler per phase.

    Each method works as a decorator, bare or with options. `inline` runs the handler on the data-plane thread
    itself (it must never block or wait); None leaves that to the plugin's `execution`.

    Raises:
        TypeError: the handler is no function of one argument, or is a generator.
        PluginError: the phase has a handler already, or `setup` is over.
    """

    @overload
    def request_filter(
        self, handler: _HandlerT, /, *, body: bool = False, inline: bool | None = None
    ) -> _HandlerT: ...
    @overload
    def request_filter(
        self, handler: None = None, /, *, body: bool = False, inline: bool | None = None
    ) -> Callable[[_HandlerT], _HandlerT]: ...
    @overload
    def response_filter(self, handler: _HandlerT, /, *, inline: bool | None = None) -> _HandlerT: ...
    @overload
    def response_filter(
        self, handler: None = None, /, *, inline: bool | None = None
    ) -> Callable[[_HandlerT], _HandlerT]: ...
    @overload
    def response_body_filter(
        self, handler: _HandlerT, /, *, stream: bool = False, inline: bool | None = None
    ) -> _HandlerT: ...
    @overload
    def response_body_filter(
        self, handler: None = None, /, *, stream: bool = False, inline: bool | None = None
    ) -> Callable[[_HandlerT], _HandlerT]: ...
    @overload
    def logging(self, handler: _HandlerT, /, *, inline: bool | None = None) -> _HandlerT: ...
    @overload
    def logging(
        self, handler: None = None, /, *, inline: bool | None = None
    ) -> Callable[[_HandlerT], _HandlerT]: ...

@final
class Registry:
    """The entries of one plugin object."""

    def __new__(cls) -> Self: ...
    def add_setup(self, entry: str, setup: Callable[[PhaseHandler], None]) -> None:
        """Registers an entry by its setup function."""

    def add_handler(
        self,
        entry: str,
        phase: str,
        handler: Callable[[Context], Any],
        body: bool,
        stream: bool,
        inline: bool | None,
    ) -> None:
        """Registers one handler of an entry that keeps no sessions."""

    def entries(self) -> list[str]:
        """The names, in order."""

# ---- how it is run ----

@final
class LoopQueue:
    """What a plugin's event loop is asked to do."""

    def fileno(self) -> int:
        """Readable when there is something to take; -1 once closed."""

    def close(self) -> None:
        """Gives the descriptor back."""

    def running(self) -> int:
        """Calls queued or running."""

    def take(self) -> list[tuple[Callable[[Context], Coroutine[Any, Any, None]], Context]]:
        """The handlers to be started now."""

@final
class PluginProcess:
    """The process of one plugin, which a gateway started. Use `nylon.isolation`."""

    @staticmethod
    def take() -> PluginProcess:
        """Takes this process's standard input, where a gateway says what to run. Raises `GatewayError`."""

    @property
    def recipe(self) -> dict[str, Any]:
        """What to run."""

    def refuse(self, why: str) -> None:
        """Says why the plugin cannot run."""

    def serve(self, plugin: NylonPlugin) -> None:
        """Initializes `plugin`, says so and serves until the gateway ends; then ends the plugin."""

    def serve_library(self) -> None:
        """Loads a native plugin, says so and serves until the gateway ends; then ends the plugin."""

@final
class GatewayCore:
    """A gateway's plan, and what runs of it. Use `nylon.Gateway`."""

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> GatewayCore:
        """Reads a configuration file. Raises `ConfigError`."""

    @staticmethod
    def from_text(name: str, text: str, directory: str | os.PathLike[str]) -> GatewayCore:
        """Reads a configuration. Raises `ConfigError`."""

    @property
    def warnings(self) -> list[str]:
        """What is doubtful."""

    @property
    def embedded_brokers(self) -> list[str]:
        """Brokers to be started by the gateway."""

    @property
    def addresses(self) -> list[tuple[str, str, int]]:
        """Where it listens: scheme, host and port."""

    @property
    def control(self) -> Path | None:
        """Where the control socket is to be."""

    def start(self, plugins: dict[str, NylonPlugin], brokers: dict[str, str]) -> None:
        """Loads the plugins and serves. Raises `PluginError`, `ConfigError`, `GatewayError`."""

    def reload(
        self,
        next: GatewayCore,
        plugins: dict[str, NylonPlugin],
        brokers: dict[str, str],
        force: bool,
        wait: float,
    ) -> tuple[int, list[str], list[str], list[str], list[str]]:
        """Puts the plan of `next` into the place of the running one.

        Returns the generation's number, the names of the plugins started, kept and ended, and warnings. Raises as
        `start` does; then nothing has changed.
        """

    def hurry(self) -> None:
        """Makes a reload that waits for its plugins give up."""

    def stop(self, grace: float | None = None) -> None:
        """Drains and ends everything."""

    def status(self) -> str:
        """What runs now, as a JSON text."""

    def not_ready(self) -> list[str]:
        """Why plugins cannot be expected to answer now."""

def start_logging(level: str) -> bool:
    """Sends the data plane's log to stderr at `level`, or as the environment's `NYLON_LOG` says.

    False where this was done before.
    """

# ---- the configuration ----

@final
class Diagnostic:
    """One thing that is wrong with a configuration, or doubtful. `str()` shows it with its line."""

    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def suggestion(self) -> str | None: ...
    @property
    def shown(self) -> str: ...

@final
class BrokerServers:
    """A message broker that a configuration names."""

    @property
    def name(self) -> str: ...
    @property
    def servers(self) -> list[str]: ...
    @property
    def place(self) -> str: ...

@final
class ConfigCheck:
    """What is wrong with a configuration, what is doubtful, and the brokers it needs."""

    @property
    def errors(self) -> list[Diagnostic]: ...
    @property
    def warnings(self) -> list[Diagnostic]: ...
    @property
    def brokers(self) -> list[BrokerServers]: ...

def check_config(path: str | os.PathLike[str]) -> ConfigCheck:
    """Reads and validates a configuration file; starts nothing and loads no plugin. Reads native plugins' files."""

def control_socket(path: str | os.PathLike[str]) -> Path | None:
    """The control socket that the configuration in a file names, be the rest of it right or wrong."""

def json_schema() -> str:
    """The configuration's JSON Schema (draft 2020-12) as a JSON text."""

# ---- workers ----

def sign_with_nkey(path: str | os.PathLike[str], nonce: _Bytes) -> tuple[str, _Bytes]:
    """The public key of the nkey seed in the file `path`, and the seed's signature of `nonce` (64 bytes).

    Raises `ConfigError` naming the file where it holds no user's seed.
    """

def sign_with_creds(path: str | os.PathLike[str], nonce: _Bytes) -> tuple[str, _Bytes]:
    """The JWT in the `.creds` file `path`, and its seed's signature of `nonce` (64 bytes).

    Raises `ConfigError` naming the file where it holds no credentials.
    """

@final
class Worker:
    """A worker's calls: taken apart, dispatched and answered. Use `nylon.NatsPlugin`."""

    def __new__(
        cls,
        registry: Registry,
        stepper: Stepper,
        *,
        worker: str,
        group: str,
        prefix: str,
        concurrency: int,
        inline: bool,
        threads: int,
        plain: bool,
    ) -> Self: ...
    @property
    def worker(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def call_subject(self) -> str: ...
    @property
    def own_subject(self) -> str: ...
    @property
    def announce_subject(self) -> str: ...
    @property
    def service_name(self) -> str: ...
    @property
    def wake_fd(self) -> int: ...
    @property
    def unsent(self) -> int:
        """Bytes that wait to be written."""

    @property
    def in_flight(self) -> int: ...
    @property
    def sessions(self) -> int: ...
    @property
    def last_error(self) -> str | None: ...
    def entries(self) -> list[tuple[str, list[str]]]:
        """The entries with their phases."""

    def metadata(self) -> dict[str, str]:
        """The same for the NATS micro service."""

    def info(self) -> bytes:
        """The frame that announces the worker."""

    def leave(self) -> bytes:
        """The frame that says it leaves."""

    def protocol(self, transport: BaseTransport, inner: BaseProtocol) -> WorkerProtocol:
        """The protocol to put in front of `inner`."""

    def take_subscription(self, sid: int, own: bool) -> None:
        """Takes a subscription's messages out of the bytes."""

    def online(self, max_payload: int) -> None:
        """Connected and subscribed. What has waited is written, or, with `plain`, can be taken now."""

    def offline(self) -> None:
        """The connection is gone."""

    def receive(self, own: bool, reply: str, payload: bytes) -> None:
        """Handles one message that nats-py delivered."""

    def take_publications(self) -> list[tuple[str, str, bytes]]:
        """Takes what waits to be published: subject, reply subject, payload."""

    def wake(self) -> None:
        """Writes what other threads have left."""

    def tick(self) -> bool:
        """Gives up late calls, ends the sessions of silent gateways. True after a stall, until `caught_up`."""

    @property
    def stall(self) -> int | None:
        """The last stall, while messages of before it may still come."""

    def caught_up(self, stall: int) -> None:
        """All that was sent before the end of that stall has been received."""

    def give_up(self) -> None:
        """Gives up all calls and sessions."""

    def stats(self) -> dict[str, int]:
        """Counts since the start."""

    def close(self) -> bool:
        """Ends the threads. False if one is stuck in a handler."""

@final
class WorkerProtocol(BaseProtocol):
    """An asyncio protocol in front of nats-py's own."""

    def connection_made(self, transport: BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

# ---- tests of plugins ----

@final
class TestExchange:
    """One exchange, made by hand. Use `nylon.testing.PluginClient`."""

    def __new__(
        cls,
        method: str,
        path: str,
        query: str,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        host: str,
        scheme: str,
        client_ip: str,
        http_version: str,
        params: list[tuple[str, str]],
        request_id: bytes,
    ) -> Self: ...
    def answer(self, status: int, headers: list[tuple[str, str]]) -> None:
        """The service's answer."""

    def read_response(self, body: bytes) -> None:
        """The service's body, read whole."""

    def set_chunk(self, data: bytes | None, end_of_stream: bool = False) -> None:
        """A part of the body for a handler with `stream=True`; None ends that."""

    def sent(self, bytes: int, duration: float, error: str | None = None) -> None:
        """What the client got."""

    def chunk(self) -> bytes | None:
        """The chunk as the last handler left it."""

    def response_body(self) -> bytes | None:
        """The response's body where it is known."""

    def request_body(self) -> bytes:
        """The request's body as it would be forwarded."""

    def view(self) -> Context:
        """A context over a copy that stays open, for reading."""

@final
class TestSession:
    """One session of one entry."""

    def __new__(cls) -> Self: ...
    def state(self) -> dict[str, Any]:
        """A copy of `ctx.state` as the last handler left it."""

@final
class TestHost:
    """The gateway's host of one plugin."""

    def __new__(cls, plugin: NylonPlugin, config: Any) -> Self: ...
    def entry(self, name: str) -> tuple[list[str], bool, bool]:
        """Phases, whether it wants the request body, whether it wants chunks. Raises `PluginError`."""

    def run(
        self,
        entry: str,
        phase: str,
        exchange: TestExchange,
        session: TestSession,
        payload: Any,
        timeout: float,
    ) -> tuple[str, str | None, str | None]:
        """Runs one phase: outcome, and kind and message of a failure."""

    def close(self) -> None:
        """Runs `shutdown` and ends the plugin's threads."""

# ---- for the stepper and the tests ----

def _finish(context: Context, error: BaseException | None = None) -> None: ...
def _suspend(context: Context, task: Task[Any]) -> bool: ...
def _error_names() -> list[str]: ...
