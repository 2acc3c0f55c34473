"""Nylon: an HTTP gateway that people extend with plugins."""

from typing import TYPE_CHECKING, Any

from nylon._core import Context, Headers, PhaseHandler, Request, Response, ResponseStream
from nylon.errors import (
    BodyError,
    ConfigError,
    ContextClosed,
    DecisionError,
    GatewayError,
    HandlerError,
    InvalidValueError,
    NylonError,
    PhaseError,
    PluginError,
    StateError,
    StreamClosed,
    WorkerError,
)
from nylon.plugin import NylonPlugin

if TYPE_CHECKING:
    from nylon.gateway import Gateway, Reloaded
    from nylon.nats import NatsPlugin

__all__ = [
    "BodyError",
    "ConfigError",
    "Context",
    "ContextClosed",
    "DecisionError",
    "Gateway",
    "GatewayError",
    "HandlerError",
    "Headers",
    "InvalidValueError",
    "NatsPlugin",
    "NylonError",
    "NylonPlugin",
    "PhaseError",
    "PhaseHandler",
    "PluginError",
    "Reloaded",
    "Request",
    "Response",
    "ResponseStream",
    "StateError",
    "StreamClosed",
    "WorkerError",
]


def __getattr__(name: str) -> Any:
    """What most programs use only one of is imported when it is asked for: the broker's client takes a while."""
    if name == "NatsPlugin":
        from nylon.nats import NatsPlugin

        return NatsPlugin
    if name in ("Gateway", "Reloaded"):
        from nylon import gateway

        return getattr(gateway, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
