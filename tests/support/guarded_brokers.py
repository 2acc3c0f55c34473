"""Brokers that let only some in: what such a server is configured with, and what each side needs to get in.

`by_token(folder)` and its kind put the files that are needed into the folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trustme

from nylon.embedded import NatsServer
from support.configs import Config
from support.identities import Nkey, Operator, write_secret

PASSWORD = "c0rrect-horse"


@dataclass(kw_only=True)
class Way:
    """One way into a broker."""

    server: str
    """The server's configuration."""
    gateway: Config = field(default_factory=dict)
    """What the gateway's messaging connection needs for it."""
    environment: dict[str, str] = field(default_factory=dict)
    """What a worker needs for it, as variables."""
    flags: list[str] = field(default_factory=list)
    """The same as flags of `nylon worker`."""
    scheme: str = "nats"
    user: str = ""
    """Before the host of every URL, with its `@`."""
    secrets: tuple[str, ...] = ()
    """What no log may show."""

    def url(self, server: NatsServer) -> str:
        return server.url.replace("nats://", f"{self.scheme}://{self.user}")


@dataclass
class Authority:
    """A certificate authority, and the files that it has signed."""

    folder: Path
    name: str
    ca: trustme.CA = field(default_factory=trustme.CA)

    @property
    def file(self) -> str:
        path = self.folder / f"{self.name}.pem"
        self.ca.cert_pem.write_to_path(path)
        return str(path)

    def sign(self, *names: str) -> tuple[str, str]:
        """Certificate and key for `names`, as files."""
        pair = self.ca.issue_cert(*names)
        cert = self.folder / f"{self.name}-{names[0]}.pem"
        pair.cert_chain_pems[0].write_to_path(cert)
        key = write_secret(
            self.folder / f"{self.name}-{names[0]}-key.pem", pair.private_key_pem.bytes().decode()
        )
        return str(cert), key

    def server(self, *names: str, more: str = "") -> str:
        """The `tls` section of a server."""
        cert, key = self.sign(*names)
        return f'tls {{ cert_file: "{cert}", key_file: "{key}", timeout: 5{more} }}\n'


def by_password(folder: Path) -> Way:
    return Way(
        server=f"authorization {{ user: nylon, password: {PASSWORD} }}",
        gateway={"auth": {"user": "nylon", "password": PASSWORD}},
        environment={"NATS_USER": "nylon", "NATS_PASSWORD": PASSWORD},
        flags=["--user", "nylon", "--password", PASSWORD],
        secrets=(PASSWORD,),
    )


def by_password_in_the_url(folder: Path) -> Way:
    return Way(
        server='authorization { user: "ny:lon", password: "c0rrect@horse" }',
        user="ny%3Alon:c0rrect%40horse@",
        secrets=("c0rrect@horse", "c0rrect%40horse"),
    )


def by_token(folder: Path) -> Way:
    return Way(
        server=f"authorization {{ token: {PASSWORD} }}",
        gateway={"auth": {"token": PASSWORD}},
        environment={"NATS_TOKEN": PASSWORD},
        flags=["--token", PASSWORD],
        secrets=(PASSWORD,),
    )


def by_nkey(folder: Path) -> Way:
    gateway, worker = Nkey(), Nkey()
    seed = write_secret(folder / "worker.nk", f"# the worker's\n{worker.seed}\n")
    return Way(
        server=f"authorization {{ users: [ {{ nkey: {gateway.public} }}, {{ nkey: {worker.public} }} ] }}",
        gateway={"auth": {"nkey": write_secret(folder / "gateway.nk", gateway.seed)}},
        environment={"NATS_NKEY": seed},
        flags=["--nkey", seed],
        secrets=(gateway.seed, worker.seed),
    )


def by_creds(folder: Path) -> Way:
    operator = Operator()
    texts = [operator.creds(name) for name in ("gateway", "worker")]
    files = [
        write_secret(folder / f"{name}.creds", text)
        for name, text in zip(("gateway", "worker"), texts, strict=True)
    ]
    return Way(
        server=operator.config,
        gateway={"auth": {"creds": files[0]}},
        environment={"NATS_CREDS": files[1]},
        flags=["--creds", files[1]],
        secrets=tuple(line for text in texts for line in text.splitlines() if line.startswith(("ey", "SU"))),
    )


def by_tls(folder: Path) -> Way:
    authority = Authority(folder, "ca")
    return Way(
        server=authority.server("127.0.0.1"),
        gateway={"tls": {"ca_file": authority.file}},
        environment={"NATS_CA": authority.file},
        flags=["--tls-ca", authority.file],
        scheme="tls",
    )


def by_tls_with_another_name(folder: Path) -> Way:
    authority = Authority(folder, "ca")
    return Way(
        server=authority.server("nats.internal"),
        gateway={"tls": {"ca_file": authority.file, "hostname": "nats.internal"}},
        environment={"NATS_CA": authority.file, "NATS_TLS_HOSTNAME": "nats.internal"},
        flags=["--tls-ca", authority.file, "--tls-hostname", "nats.internal"],
    )


def by_certificate(folder: Path) -> Way:
    authority = Authority(folder, "ca")
    cert, key = authority.sign("client.test")
    verify = f', ca_file: "{authority.file}", verify: true'
    return Way(
        server=authority.server("127.0.0.1", more=verify),
        gateway={"tls": {"ca_file": authority.file, "cert": cert, "key": key}},
        environment={"NATS_CA": authority.file, "NATS_CERT": cert, "NATS_KEY": key},
        flags=["--tls-ca", authority.file, "--tls-cert", cert, "--tls-key", key],
        secrets=tuple(Path(key).read_text().splitlines()[1:-1]),
    )


WAYS = [
    by_password,
    by_password_in_the_url,
    by_token,
    by_nkey,
    by_creds,
    by_tls,
    by_tls_with_another_name,
    by_certificate,
]
