"""An authority, and gateways that get their certificates from it: each knows on which ports the other is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from support.configs import Config, gateway_config
from support.origin import Origin
from support.pebble import Authority, Pebble, certificate_for
from support.processes import GatewayProcess
from support.waiting import eventually


@dataclass
class Site:
    """Where a test's authority and gateways are."""

    origin: Origin
    authority: Authority
    storage: Path

    @property
    def http_port(self) -> int:
        """Where gateways speak plain HTTP, and the authority looks."""
        return self.authority.http_port

    @property
    def https_port(self) -> int:
        """Where they speak HTTPS, and the authority looks."""
        return self.authority.tls_port

    def certificate(self, *domains: str, **acme: Any) -> Config:
        """A certificate of the authority."""
        return {**self.authority.settings(**acme), "domains": list(domains)}

    def config(self, *certificates: Config, **sections: Any) -> Config:
        """A gateway with these certificates."""
        ports: dict[str, Any] = {
            "http": [f"127.0.0.1:{self.http_port}"],
            "https": [f"127.0.0.1:{self.https_port}"],
        }
        tls = {"acme": str(self.storage), "tls": list(certificates)}
        return gateway_config(self.origin.address, **{**ports, **tls, **sections})

    def shown(self, host: str, pebble: Pebble, *, port: int | None = None) -> x509.Certificate | None:
        """The certificate that a client gets which trusts the authority alone."""
        return certificate_for(host, port or self.https_port, pebble.root)

    def await_shown(
        self,
        host: str,
        pebble: Pebble,
        gateway: GatewayProcess,
        *,
        within: float = 30.0,
        port: int | None = None,
    ) -> x509.Certificate:
        """The same, once there is one."""
        try:
            return _some(lambda: self.shown(host, pebble, port=port), f"a certificate for {host}", within)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; the gateway's log:\n{gateway.log}\nPebble's:\n{pebble.log}"
            ) from None


def _some(look: Callable[[], x509.Certificate | None], what: str, within: float) -> x509.Certificate:
    found = eventually(look, what, within=within)
    assert found is not None
    return found
