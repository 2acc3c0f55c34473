"""Every exception that Nylon raises on purpose.

    NylonError
    ├── ConfigError          the configuration is wrong: file, line, column, reason, suggestion
    ├── PluginError          a plugin cannot be loaded, or registers something impossible
    ├── GatewayError         the gateway cannot do this now: port in use, not started, forked
    ├── WorkerError          a worker cannot serve: credentials refused, connection ended for good
    └── HandlerError         what a handler asked its context for is not possible
        ├── ContextClosed    the context was used after its phase, or after its time-out
        ├── DecisionError    a second ``ctx.next()`` or ``ctx.end()``
        ├── PhaseError       not in this phase
        ├── InvalidValueError (also a ValueError)  not a legal header, path, status …
        ├── StateError       ``ctx.state`` holds what cannot travel
        ├── BodyError        the body is not there, too large, or the client did not deliver it
        └── StreamClosed     nobody takes any more of a response that is being written

A handler that lets one of them escape has raised like any other: the phase's ``on_error`` decides.
"""

__all__ = [
    "BodyError",
    "ConfigError",
    "ContextClosed",
    "DecisionError",
    "GatewayError",
    "HandlerError",
    "InvalidValueError",
    "NylonError",
    "PhaseError",
    "PluginError",
    "StateError",
    "StreamClosed",
    "WorkerError",
]


class NylonError(Exception):
    """The base of all of Nylon's exceptions."""


class ConfigError(NylonError):
    """The configuration is wrong. The text lists every error with file, line, column and a suggestion."""


class PluginError(NylonError):
    """A plugin cannot be loaded, or registers something impossible. The text names file and line."""


class GatewayError(NylonError):
    """The gateway cannot do what was asked of it now. The text says why and what to do."""


class WorkerError(NylonError):
    """A worker cannot serve, and waiting would not help. The text says why and what to do."""


class HandlerError(NylonError):
    """What a handler asked its context for is not possible."""


class ContextClosed(HandlerError):
    """The context was used after its phase was over, or after its time-out."""


class DecisionError(HandlerError):
    """The handler decided a second time. The first ``ctx.next()`` or ``ctx.end()`` wins."""


class PhaseError(HandlerError):
    """This is not possible in this phase; the text names the rule."""


class InvalidValueError(HandlerError, ValueError):
    """The value is not legal HTTP; the text shows it and the rule."""


class StateError(HandlerError):
    """``ctx.state`` holds something that cannot travel between phases, or too much of it."""


class BodyError(HandlerError):
    """The body is not there to be read: not asked for, too large, or not delivered by the client."""


class StreamClosed(HandlerError):
    """Nobody takes any more of what `ctx.response.stream()` sends: the client went away, say. The text says why."""
