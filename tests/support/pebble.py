"""Pebble: an authority that issues certificates by ACME, for tests; and the name server that it asks.

Both listen on loopback only. Every name is 127.0.0.1, and the ports where Pebble looks for proofs are the test's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
from cryptography import x509

from support.golang import tool
from support.processes import Process
from support.waiting import eventually

PEBBLE = "github.com/letsencrypt/pebble/v2/cmd/pebble"
NAME_SERVER = "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, for processes that cannot take one by themselves."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(taken.getsockname()[1]) for taken in sockets]


@dataclass
class Authority:
    """What stays the same of an authority that is started, stopped and started again in one place."""

    directory: Path
    """Where its files are."""
    http_port: int
    """Where it looks for HTTP-01."""
    tls_port: int
    """Where it looks for TLS-ALPN-01."""
    own: trustme.CA = field(default_factory=trustme.CA)
    """Who has issued the certificate of its directory."""
    ports: list[int] = field(default_factory=lambda: free_ports(4))

    @property
    def directory_url(self) -> str:
        """Its ACME directory."""
        return f"https://127.0.0.1:{self.ports[0]}/dir"

    @property
    def ca_file(self) -> Path:
        """What the certificate of its directory is checked against."""
        return self.directory / "directory-ca.pem"

    def settings(self, **more: Any) -> dict[str, Any]:
        """A certificate in Nylon's configuration."""
        acme = {"directory_url": self.directory_url, "directory_ca_file": str(self.ca_file), **more}
        return {"type": "acme", "acme": acme}

    @contextlib.contextmanager
    def running(
        self,
        *,
        validity: int = 7_776_000,
        external_accounts: Mapping[str, str] | None = None,
        blocked: Sequence[str] = (),
    ) -> Iterator[Pebble]:
        """Runs it. Its accounts and orders are new ones each time, and so is the root of what it issues."""
        certificate = self.own.issue_cert("127.0.0.1")
        self.own.cert_pem.write_to_path(self.ca_file)
        certificate.private_key_pem.write_to_path(self.directory / "directory-key.pem")
        certificate.cert_chain_pems[0].write_to_path(self.directory / "directory.pem")
        config = {
            "listenAddress": f"127.0.0.1:{self.ports[0]}",
            "managementListenAddress": f"127.0.0.1:{self.ports[1]}",
            "certificate": str(self.directory / "directory.pem"),
            "privateKey": str(self.directory / "directory-key.pem"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "externalAccountBindingRequired": external_accounts is not None,
            "externalAccountMACKeys": dict(external_accounts or {}),
            "domainBlocklist": list(blocked),
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": {"default": {"description": "the only one", "validityPeriod": validity}},
        }
        file = self.directory / "pebble.json"
        file.write_text(json.dumps({"pebble": config}), encoding="utf-8")
        names = f"127.0.0.1:{self.ports[2]}"
        with (
            _NameServer(names, f"127.0.0.1:{self.ports[3]}", self.directory),
            Pebble(self, file, names) as pebble,
        ):
            yield pebble


class _NameServer(Process):
    """Answers each question for an address with 127.0.0.1."""

    def __init__(self, names: str, management: str, directory: Path) -> None:
        off = [f"-{what}=" for what in ("http01", "https01", "tlsalpn01", "doh", "defaultIPv6")]
        command = [tool(NAME_SERVER), f"-dnsserver={names}", f"-management={management}", *off]
        super().__init__(command, cwd=directory, output_to_log=True)


class Pebble(Process):
    """A running authority."""

    def __init__(self, authority: Authority, config: Path, name_server: str) -> None:
        self._authority = authority
        super().__init__(
            [tool(PEBBLE), "-config", config, "-dnsserver", name_server, "-strict"],
            cwd=authority.directory,
            environment={"PEBBLE_VA_NOSLEEP": "1"},
            output_to_log=True,
        )

    def __enter__(self) -> Self:
        try:
            self._own = ssl.create_default_context(cafile=str(self._authority.ca_file))
            eventually(self._answers, "Pebble", within=30)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self.running, f"Pebble ended; its log:\n{self.log}"
        with contextlib.suppress(OSError):
            return bool(self._asked(self._authority.ports[0], "/dir") and self.root)
        return False

    def _asked(self, port: int, path: str) -> bytes:
        with contextlib.closing(
            http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=self._own)
        ) as asked:
            asked.request("GET", path)
            return asked.getresponse().read()

    @property
    def root(self) -> str:
        """The root of what it issues, as PEM."""
        return self._asked(self._authority.ports[1], "/roots/0").decode()

    @property
    def issued(self) -> int:
        """How many certificates it has issued."""
        return self.log.count("Issued certificate serial")


def certificate_for(host: str, port: int, root: str) -> x509.Certificate | None:
    """What a client that trusts `root` alone gets from 127.0.0.1 as `host`; None where it does not trust it."""
    context = ssl.create_default_context(cadata=root)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
    except OSError:
        return None
    return x509.load_der_x509_certificate(der) if der else None
