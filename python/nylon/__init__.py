"""Nylon: an HTTP gateway that people extend with plugins."""

from nylon._core import Context, Headers, PhaseHandler, Request, Response
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
    WorkerError,
)
from nylon.gateway import Gateway
from nylon.nats import NatsPlugin
from nylon.plugin import NylonPlugin

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
    "Request",
    "Response",
    "StateError",
    "WorkerError",
]
