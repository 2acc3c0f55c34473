"""An authority that issues server certificates into files, and clients that believe it or look closely."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509


class Authority:
    """A certificate authority, with a folder for what it issues."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)

    def issue(
        self, name: str, *names: str, expired: bool = False, common_name: str | None = None
    ) -> dict[str, Any]:
        """A certificate for `names` in `<name>.pem` and `<name>.key`, as an item of `tls` in a configuration."""
        expires = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if expired else None
        made = self._ca.issue_cert(*names, not_after=expires, common_name=common_name)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        # Each file changes at once, as whoever renews certificates makes it.
        replace(key, made.private_key_pem.bytes())
        replace(cert, chain)
        return {"type": "custom", "cert": str(cert), "key": str(key), "domains": list(names)}

    def client(self, *protocols: str) -> ssl.SSLContext:
        """A client that believes this authority alone, checks names, and asks for these protocols."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self._ca.cert_pem.bytes()

    def careless_client(self) -> ssl.SSLContext:
        """A client that takes this authority's certificates for any name, so that a test can look at them."""
        context = self.client()
        context.check_hostname = False
        return context


def replace(path: Path, content: bytes) -> None:
    """Put a file that only its owner can read into the place of another one."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.replace(path)


def names_shown(connection: ssl.SSLSocket) -> list[str]:
    """The names in the certificate that the server has shown."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    extensions = x509.load_der_x509_certificate(der).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def serial_shown(connection: ssl.SSLSocket) -> int:
    """The serial number of the certificate that the server has shown."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
