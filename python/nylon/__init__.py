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
)
from nylon.gateway import Gateway
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
    "NylonError",
    "NylonPlugin",
    "PhaseError",
    "PhaseHandler",
    "PluginError",
    "Request",
    "Response",
    "StateError",
]
