"""Configurations as dicts, without the parts that every test would repeat."""

from __future__ import annotations

from typing import Any

from support.client import Address

Config = dict[str, Any]


def http_service(name: str, *addresses: Address, **more: Any) -> Config:
    """An `http` service."""
    endpoints = [{"ip": host, "port": port} for host, port in addresses]
    return {"name": name, "service_type": "http", "endpoints": endpoints, **more}


def route(path: str | list[str], service: str = "origin", **more: Any) -> Config:
    """A path rule; `rewrite` goes to the service."""
    target = {"name": service}
    if "rewrite" in more:
        target["rewrite"] = more.pop("rewrite")
    return {"path": path, "service": target, **more}


def gateway_config(origin: Address | None, paths: list[Config] | None = None, **sections: Any) -> Config:
    """One listener on a free port, one route for every host, one service `origin`, one data-plane thread.

    `sections` replace or add whole sections; `services` are added to `origin`.
    """
    services = [http_service("origin", origin)] if origin else []
    config: Config = {
        "http": ["127.0.0.1:0"],
        "runtime": {"threads": 1, "grace_period_seconds": 2, "graceful_shutdown_timeout_seconds": 2},
        "services": [*services, *sections.pop("services", [])],
        "routes": [
            {
                "name": "all",
                "route": {"type": "host", "value": "*"},
                "paths": paths or [route(["/", "/{*rest}"])],
            }
        ],
    }
    return {**config, **sections}
