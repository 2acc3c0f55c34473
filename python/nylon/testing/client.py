"""Runs a plugin's handlers with no socket and no gateway.

    with PluginClient(plugin, config={"key": "secret"}) as client:
        result = client.get("/x", entry="auth", headers={"x-api-key": "wrong"})
        assert result.outcome == "end"
        assert result.status == 401

The gateway's own host runs the handlers (its thread pool, its event loop, its time-outs); only the exchange
around them is made by hand. So what passes here passes in a gateway.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from nylon import _core
from nylon._core import Context, Headers, Request
from nylon.plugin import NylonPlugin

__all__ = ["Failure", "HeaderFields", "PhaseResult", "PluginClient", "Result", "Upstream"]

#: Header fields: a mapping, or pairs where a name may repeat.
HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]
#: The four phases.
Phase = Literal["request_filter", "response_filter", "response_body_filter", "logging"]


def _pairs(fields: HeaderFields) -> list[tuple[str, str]]:
    return list(fields.items()) if isinstance(fields, Mapping) else list(fields)


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the service behind the gateway answers where the request goes on."""

    status: int = 200
    headers: HeaderFields = ()
    #: One part per chunk that a handler with ``stream=True`` is called for.
    body: bytes | list[bytes] = b""

    @property
    def chunks(self) -> list[bytes]:
        """The body in its parts, at least one."""
        return (self.body or [b""]) if isinstance(self.body, list) else [self.body]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a phase failed."""

    #: ``raised``, ``undecided``, ``timed_out``, ``overloaded``, ``unavailable``, …
    kind: str
    #: What the gateway's log would say.
    message: str


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """What one phase came to."""

    #: ``next``, ``end`` or ``error``.
    outcome: str
    #: Where the outcome is ``error``.
    error: Failure | None = None


@dataclass(slots=True)
class Result:
    """What an exchange came to."""

    #: What the entry's ``request_filter`` came to: ``next``, ``end`` or ``error``.
    outcome: str
    #: The first failure of any phase.
    error: Failure | None
    #: The status that the client gets; None where a phase failed, since the gateway's policy picks it then.
    status: int | None
    #: The response body that the client gets; empty where a phase failed.
    body: bytes
    #: ``ctx.state`` as the last phase left it.
    state: dict[str, Any]
    #: The phases that ran, each with its result.
    phases: dict[str, PhaseResult] = field(default_factory=dict)
    #: The request's body as it goes to the service.
    request_body: bytes = b""
    _view: Context | None = None

    @property
    def headers(self) -> Headers:
        """The response's header fields."""
        return self._context.response.headers

    @property
    def request(self) -> Request:
        """The request as it goes to the service, with the handlers' mutations; read-only."""
        return self._context.request

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, decoded from JSON."""
        import json

        return json.loads(self.body)

    @property
    def _context(self) -> Context:
        if self._view is None:
            raise ValueError("this result has no exchange")
        return self._view


class PluginClient:
    """Sends requests to a plugin's entries. A context manager; :meth:`close` ends the plugin's threads.

    Args:
        plugin: the plugin object; its ``initialize`` runs at once.
        payload: the default for ``ctx.payload``.
        config: what ``initialize`` gets.
        timeout: the default for each phase's time, in seconds.

    Raises:
        PluginError: ``initialize`` raised, or the plugin registers something impossible.
    """

    def __init__(
        self, plugin: NylonPlugin, *, payload: Any = None, config: Any = None, timeout: float = 5.0
    ) -> None:
        self._host = _core.TestHost(plugin, config)
        self._payload = payload
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Runs the plugin's ``shutdown`` and ends its threads. A second call does nothing."""
        self._host.close()

    def get(self, url: str, *, entry: str, **options: Any) -> Result:
        """Sends a GET request; options as for :meth:`request`."""
        return self.request("GET", url, entry=entry, **options)

    def post(self, url: str, *, entry: str, **options: Any) -> Result:
        """Sends a POST request; options as for :meth:`request`."""
        return self.request("POST", url, entry=entry, **options)

    def put(self, url: str, *, entry: str, **options: Any) -> Result:
        """Sends a PUT request; options as for :meth:`request`."""
        return self.request("PUT", url, entry=entry, **options)

    def delete(self, url: str, *, entry: str, **options: Any) -> Result:
        """Sends a DELETE request; options as for :meth:`request`."""
        return self.request("DELETE", url, entry=entry, **options)

    def request(
        self,
        method: str,
        url: str,
        *,
        entry: str,
        headers: HeaderFields = (),
        body: bytes | str = b"",
        payload: Any = None,
        upstream: Upstream | None = None,
        params: Mapping[str, str] | None = None,
        client_ip: str = "127.0.0.1",
        http_version: str = "1.1",
        timeout: float | None = None,
    ) -> Result:
        """Runs a whole exchange through one entry: all its phases, with a service that answers ``upstream``.

        Args:
            method: the request's method.
            url: a path with its query, or a whole URL.
            entry: the entry's name.
            headers: the request's header fields.
            body: the request's body; ``str`` is sent as UTF-8.
            payload: ``ctx.payload``, instead of the client's default.
            upstream: what the service answers where ``request_filter`` says next.
            params: what the route's path pattern captured.
            client_ip: the client's address.
            http_version: ``1.0``, ``1.1`` or ``2``.
            timeout: each phase's time, in seconds.

        Raises:
            PluginError: the plugin has no such entry.
            InvalidValueError: the request is not legal HTTP.
        """
        parts = urlsplit(url)
        exchange = _core.TestExchange(
            method,
            parts.path or "/",
            parts.query,
            _pairs(headers),
            body.encode() if isinstance(body, str) else body,
            host=parts.netloc or "testserver",
            scheme=parts.scheme or "http",
            client_ip=client_ip,
            http_version=http_version,
            params=list((params or {}).items()),
            request_id=secrets.token_bytes(16),
        )
        run = _Exchange(
            self._host,
            exchange,
            entry,
            self._payload if payload is None else payload,
            self._timeout if timeout is None else timeout,
        )
        return run.whole(upstream or Upstream())

    def run_phase(
        self,
        phase: Phase,
        *,
        entry: str,
        method: str = "GET",
        url: str = "/",
        headers: HeaderFields = (),
        body: bytes | str = b"",
        response: Upstream | None = None,
        payload: Any = None,
        params: Mapping[str, str] | None = None,
        client_ip: str = "127.0.0.1",
        timeout: float | None = None,
    ) -> Result:
        """Runs one phase alone, over a request and the response that is known by then.

        Arguments are those of :meth:`request`; ``response`` is the response as the phase finds it. With
        ``stream=True`` the ``response_body_filter`` is called once per part of its body.
        """
        parts = urlsplit(url)
        exchange = _core.TestExchange(
            method,
            parts.path or "/",
            parts.query,
            _pairs(headers),
            body.encode() if isinstance(body, str) else body,
            host=parts.netloc or "testserver",
            scheme=parts.scheme or "http",
            client_ip=client_ip,
            http_version="1.1",
            params=list((params or {}).items()),
            request_id=secrets.token_bytes(16),
        )
        run = _Exchange(
            self._host,
            exchange,
            entry,
            self._payload if payload is None else payload,
            self._timeout if timeout is None else timeout,
        )
        return run.single(phase, response)


class _Exchange:
    """One exchange on its way through one entry's phases, as the gateway would take it."""

    def __init__(
        self, host: _core.TestHost, exchange: _core.TestExchange, entry: str, payload: Any, timeout: float
    ) -> None:
        self._host = host
        self._exchange = exchange
        self._entry = entry
        self._payload = payload
        self._timeout = timeout
        self._session = _core.TestSession()
        self._phases, self._wants_body, self._streams = host.entry(entry)
        self._results: dict[str, PhaseResult] = {}

    def whole(self, upstream: Upstream) -> Result:
        first = self._run("request_filter")
        error = first.error
        body = b""
        if error is None:
            if first.outcome == "next":
                self._exchange.answer(upstream.status, _pairs(upstream.headers))
                chunks = upstream.chunks
            else:
                chunks = [self._exchange.response_body() or b""]
            error, body = self._respond(chunks)
        view = self._exchange.view()
        self._exchange.sent(len(body), 0.001, None if error is None else error.message)
        logged = self._run("logging")
        return self._result(first.outcome, error or logged.error, body, view)

    def single(self, phase: Phase, response: Upstream | None) -> Result:
        if response is not None:
            self._exchange.answer(response.status, _pairs(response.headers))
        chunks = response.chunks if response is not None else [b""]
        body = b"".join(chunks)
        if phase == "response_body_filter":
            error, body = self._filter_body(chunks)
            result = self._results.get(phase, PhaseResult("next"))
        else:
            if phase == "logging":
                self._exchange.sent(len(body), 0.001)
            result = self._run(phase)
            error = result.error
            body = self._exchange.response_body() or (body if response is not None else b"")
        return self._result(result.outcome, error, body, self._exchange.view())

    def _respond(self, chunks: list[bytes]) -> tuple[Failure | None, bytes]:
        head = self._run("response_filter")
        if head.error is not None:
            return head.error, b""
        replaced = self._exchange.response_body()
        return self._filter_body(chunks if replaced is None else [replaced])

    def _filter_body(self, chunks: list[bytes]) -> tuple[Failure | None, bytes]:
        if "response_body_filter" not in self._phases:
            return None, b"".join(chunks)
        if not self._streams:
            self._exchange.read_response(b"".join(chunks))
            result = self._run("response_body_filter")
            return result.error, b"" if result.error else self._exchange.response_body() or b""
        out = b""
        for number, chunk in enumerate(chunks, 1):
            self._exchange.set_chunk(chunk, number == len(chunks))
            result = self._run("response_body_filter")
            if result.error is not None:
                return result.error, out
            out += self._exchange.chunk() or b""
            if result.outcome == "end":
                break
        self._exchange.set_chunk(None)
        return None, out

    def _run(self, phase: Phase) -> PhaseResult:
        if phase not in self._phases:
            return PhaseResult("next")
        outcome, kind, message = self._host.run(
            self._entry, phase, self._exchange, self._session, self._payload, self._timeout
        )
        error = None if kind is None else Failure(kind, message or "")
        result = PhaseResult(outcome, error)
        self._results[phase] = result
        return result

    def _result(self, outcome: str, error: Failure | None, body: bytes, view: Context) -> Result:
        return Result(
            outcome=outcome,
            error=error,
            status=view.response.status if error is None else None,
            body=body if error is None else b"",
            state=self._session.state(),
            phases=self._results,
            request_body=self._exchange.request_body(),
            _view=view,
        )
