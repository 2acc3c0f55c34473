"""A kit for plugin authors: :class:`PluginClient` runs handlers with no socket and no gateway.

The pytest fixtures for tests over real sockets come with the package and need no import.
"""

from nylon.testing.client import Failure, PhaseResult, PluginClient, Result, Upstream

__all__ = ["Failure", "PhaseResult", "PluginClient", "Result", "Upstream"]
