"""`nylon worker --check`: everything that a worker does before it serves, and nothing of what comes after."""

from __future__ import annotations

import asyncio
from typing import Any

import nats.errors

from nylon.broker import Broker, WorkerOptions, describe
from nylon.errors import WorkerError
from nylon.observer import describe_entries
from nylon.serving import served_phases
from nylon.worker import WorkerSpec, resolve

__all__ = ["check_worker"]

PATIENCE = 5.0
"""Seconds that the broker gets to answer."""


def check_worker(
    plugin: str, *, app_dir: str | None = None, config: str | None = None, **options: Any
) -> list[str]:
    """Load a plugin as a worker would and connect to its broker; lines that say what would be served where.

    Arguments are those of `run_workers`. Raises `NylonError` with what would keep a worker from serving.
    """
    loaded, settings = resolve(WorkerSpec(plugin=plugin, app_dir=app_dir, config=config, overrides=options))
    phases = asyncio.run(served_phases(loaded, settings))
    broker = asyncio.run(broker_of(settings))
    prefix, group = settings.subject_prefix, settings.group
    return [
        f"entries:  {describe_entries([(name, list(of)) for name, of in phases.items()])}",
        f"group:    {group}",
        f"subjects: {prefix}.{group}.call, {prefix}.{group}.w.*, {prefix}.{group}.workers",
        f"broker:   {broker}",
        f"{plugin}: ok",
    ]


async def broker_of(settings: WorkerOptions) -> str:
    """Which server answers, in words. Raises `WorkerError` if none does, or it refuses the credentials."""

    async def online() -> None:
        return None

    broker = Broker(settings, "check", online, lambda: None)
    try:
        async with asyncio.timeout(PATIENCE):
            await broker.connect(None)
            await broker.client.flush()
        client = broker.client
        url = client.connected_url
        place = url.netloc.rpartition("@")[2] if url is not None else "?"
        # nats-py has no public way to the name that the server gives itself.
        told = client._server_info
        name, version = told.get("server_name", "?"), told.get("version", "?")
        return f"{name}, nats-server {version} at {place}, messages of up to {client.max_payload:,} bytes"
    except TimeoutError:
        why = describe(broker.client.last_error or "no answer")
        raise WorkerError(f"no broker at {broker.servers} within {PATIENCE:g} s: {why}") from None
    except (nats.errors.Error, OSError) as error:
        raise WorkerError(f"the broker at {broker.servers} cannot be used: {describe(error)}") from error
    finally:
        await broker.close()
