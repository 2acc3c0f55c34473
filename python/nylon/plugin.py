"""The plugin object: what people register their handlers on.

It only collects. Who runs it (the gateway's process, a worker, the test client) asks for the entries when it
loads the plugin; from then on nothing more can be registered.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from nylon import _core
from nylon._core import Context, PhaseHandler
from nylon.errors import PluginError

__all__ = ["Initialize", "NylonPlugin", "Setup", "Shutdown"]

#: Registers an entry's handlers; runs once at load and once per session.
Setup = Callable[[PhaseHandler], None]
#: Gets the plugin's ``config`` (``None`` where the configuration gives none).
Initialize = Callable[[Any], Awaitable[None] | None]
#: Runs when the plugin's last session is over.
Shutdown = Callable[[], Awaitable[None] | None]

_SetupT = TypeVar("_SetupT", bound=Setup)
_HandlerT = TypeVar("_HandlerT", bound=Callable[[Context], Any])
_InitializeT = TypeVar("_InitializeT", bound=Initialize)
_ShutdownT = TypeVar("_ShutdownT", bound=Shutdown)


class NylonPlugin:
    """A plugin whose handlers run in the gateway's process, or in a worker started with ``nylon worker``.

    An *entry* is a named set of handlers, at most one per phase. Register it with a ``setup`` function, whose
    closures live as long as the session (one request × one middleware)::

        plugin = NylonPlugin()

        @plugin.phase_handler("auth")
        def auth(phase):
            @phase.request_filter
            def check(ctx):
                ctx.next()

    or, where nothing is kept between phases, handler by handler::

        @plugin.request_filter("stamp")
        async def stamp(ctx):
            ctx.request.headers["x-stamp"] = "1"
            ctx.next()

    Handlers are ``def`` or ``async def`` functions of one argument, the :class:`~nylon.Context`.
    """

    def __init__(self) -> None:
        self._registry = _core.Registry()
        self._initialize: list[Initialize] = []
        self._shutdown: list[Shutdown] = []

    def add_phase_handler(self, entry: str, setup: Setup) -> None:
        """Registers an entry by its ``setup`` function.

        ``setup`` gets a :class:`~nylon.PhaseHandler` and must register the same phases each time it runs.

        Raises:
            TypeError: ``setup`` is not a plain function of one argument.
            PluginError: the entry exists already, or the plugin runs already.
        """
        self._registry.add_setup(entry, setup)

    def phase_handler(self, entry: str) -> Callable[[_SetupT], _SetupT]:
        """The decorator form of :meth:`add_phase_handler`."""

        def register(setup: _SetupT) -> _SetupT:
            self.add_phase_handler(entry, setup)
            return setup

        return register

    def request_filter(
        self, entry: str, *, body: bool = False, inline: bool | None = None
    ) -> Callable[[_HandlerT], _HandlerT]:
        """Registers a handler that runs before the service is called, and must decide next or end.

        Args:
            entry: the entry's name.
            body: read the request body first, so that ``ctx.request.body()`` has it.
            inline: run on the data-plane thread (never blocks, never waits); None leaves it to the plugin's
                ``execution``.
        """
        return self._short(entry, "request_filter", body=body, inline=inline)

    def response_filter(self, entry: str, *, inline: bool | None = None) -> Callable[[_HandlerT], _HandlerT]:
        """Registers a handler that runs when the response's head is known."""
        return self._short(entry, "response_filter", inline=inline)

    def response_body_filter(
        self, entry: str, *, stream: bool = False, inline: bool | None = None
    ) -> Callable[[_HandlerT], _HandlerT]:
        """Registers a handler of the response's body.

        Args:
            entry: the entry's name.
            stream: call it per chunk (``ctx.chunk``, ``ctx.end_of_stream``) instead of once with the whole body.
            inline: as in :meth:`request_filter`.
        """
        return self._short(entry, "response_body_filter", stream=stream, inline=inline)

    def logging(self, entry: str, *, inline: bool | None = None) -> Callable[[_HandlerT], _HandlerT]:
        """Registers a handler that runs after the last byte; it delays nobody and changes nothing."""
        return self._short(entry, "logging", inline=inline)

    def _short(
        self, entry: str, phase: str, *, body: bool = False, stream: bool = False, inline: bool | None = None
    ) -> Callable[[_HandlerT], _HandlerT]:
        if not isinstance(entry, str):
            raise TypeError(f'name the entry: @plugin.{phase}("name"), not @plugin.{phase}')

        def register(handler: _HandlerT) -> _HandlerT:
            self._registry.add_handler(entry, phase, handler, body, stream, inline)
            return handler

        return register

    def initialize(self, function: _InitializeT) -> _InitializeT:
        """Registers a function that runs once before the first request and gets the plugin's ``config``.

        ``def`` or ``async def``; an ``async def`` runs on the loop that runs the handlers. Raising keeps the
        gateway (or the worker) from starting. Usable as a decorator.
        """
        self._initialize.append(_checked(function, "initialize", "the config"))
        return function

    def shutdown(self, function: _ShutdownT) -> _ShutdownT:
        """Registers a function that runs once after the last request. Usable as a decorator."""
        self._shutdown.append(_checked(function, "shutdown", None))
        return function

    @property
    def entries(self) -> list[str]:
        """The names of the entries, in the order of their registration."""
        return self._registry.entries()

    def close(self) -> None:
        """Ends what the plugin itself keeps open. Nothing here; a worker's plugin leaves its broker."""

    def run(self) -> None:
        """Explains itself: a plain plugin is run by a gateway or by ``nylon worker``."""
        self._explain()

    async def serve(self) -> None:
        """Explains itself: see :meth:`run`."""
        self._explain()

    def _explain(self) -> NoReturn:
        raise PluginError(
            "a NylonPlugin does not run by itself: name its file in a gateway's configuration (plugins: [{name: …, "
            "type: python, file: …}]), serve it with `nylon worker FILE:ATTRIBUTE --nats URL --group GROUP`, or make "
            "it a NatsPlugin(url, group)"
        )


_FunctionT = TypeVar("_FunctionT")


def _checked(function: _FunctionT, what: str, argument: str | None) -> _FunctionT:
    """Checks that a function can be called as it will be."""
    if not callable(function):
        raise TypeError(f"{what} takes a function, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"the {what} function is a generator: it must not yield")
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin without one
        return function
    try:
        signature.bind(*([] if argument is None else [None]))
    except TypeError as error:
        takes = f"one argument, {argument}" if argument else "no argument"
        raise TypeError(
            f"the {what} function must take {takes}: its signature is {signature} ({error})"
        ) from None
    return function
