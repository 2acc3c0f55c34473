"""A certificate for `localhost` and a client that trusts it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from support.configs import Config


class Site:
    """An authority, and what it signed for `localhost`."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        issued = self._authority.issue_cert("localhost")
        self._certificate, self._key = directory / "localhost.pem", directory / "localhost-key.pem"
        issued.private_key_pem.write_to_path(self._key)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(self._certificate, append=True)

    @property
    def sections(self) -> Config:
        """What makes a gateway serve it, on a free port and over TLS only."""
        files = {"cert": str(self._certificate), "key": str(self._key)}
        return {
            "http": [],
            "https": ["127.0.0.1:0"],
            "tls": [{"type": "custom", **files, "domains": ["localhost"]}],
        }

    def client(self, *protocols: str) -> ssl.SSLContext:
        """A client that asks for these protocols."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context
