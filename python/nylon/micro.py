"""A worker as a NATS micro service: `nats micro ls|info|stats` see it like any other.

nats-py's service answers `$SRV.PING`, `INFO` and `STATS`. Its own endpoints are not used, since they would take
the calls away from the byte path; what they would report is filled in from the worker's counters instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.aio.client import Client
from nats.micro.service import EndpointInfo, EndpointStats, Service, ServiceConfig, ServiceInfo, ServiceStats

if TYPE_CHECKING:
    from nylon._core import Worker


class WorkerService(Service):
    """Answers for one worker until stopped. Its name is made of the group, its id is the worker's."""

    def __init__(self, client: Client, core: Worker) -> None:
        metadata = core.metadata()
        config = ServiceConfig(
            name=core.service_name,
            version=metadata["nylon.version"],
            description="Nylon worker",
            metadata=metadata,
        )
        super().__init__(client, config)
        self._id = core.worker  # the id that subjects and logs show, in place of a second random one
        self._core = core

    def info(self) -> ServiceInfo:
        """INFO, with the call subject as the one endpoint."""
        info = super().info()
        info.endpoints = [EndpointInfo("call", self._core.call_subject, self._core.group, {})]
        return info

    def stats(self) -> ServiceStats:
        """STATS, from the worker's counters."""
        core = self._core
        stats = super().stats()
        numbers = core.stats()
        calls = numbers["calls"]
        stats.endpoints = [
            EndpointStats(
                name="call",
                subject=core.call_subject,
                queue_group=core.group,
                num_requests=calls,
                num_errors=numbers["failed"],
                processing_time=numbers["nanoseconds"],
                average_processing_time=numbers["nanoseconds"] // max(calls, 1),
                last_error=core.last_error,
                data=numbers,
            )
        ]
        return stats
