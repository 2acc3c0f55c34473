"""Identities as NATS knows them: nkeys, JWTs in operator mode, and the servers' configurations that go with them.

Made with plain ed25519, so that Nylon's reading of them is tested against the format's words and not against itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIXES = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
SEED = 18 << 3


def _base32(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class Nkey:
    """A pair of keys for an `operator`, an `account` or a `user`."""

    kind: str = "user"
    secret: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> str:
        """How a server knows it."""
        return _base32(bytes([PREFIXES[self.kind]]) + self.secret.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """What proves it."""
        prefix = PREFIXES[self.kind]
        head = bytes([SEED | prefix >> 5, (prefix & 31) << 3])
        return _base32(head + self.secret.private_bytes_raw())

    def issue(self, subject: Nkey, name: str, claims: dict[str, Any], expires_in: float | None = None) -> str:
        """A JWT about `subject`, signed by this one."""
        body = {
            "jti": name,
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject.public,
            "name": name,
            "nats": {"type": subject.kind, "version": 2, **claims},
        }
        if expires_in is not None:
            body["exp"] = int(time.time() + expires_in)
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, body))
        return f"{signed}.{_base64url(self.secret.sign(signed.encode()))}"


class Operator:
    """An operator with one account, and a server's configuration that trusts them and knows no user by name."""

    def __init__(self) -> None:
        self._key = Nkey("operator")
        self._account = Nkey("account")
        limits = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
        account = self._key.issue(self._account, "plugins", {"limits": {**limits, "wildcards": True}})
        self.config = (
            f"operator: {self._key.issue(self._key, 'op', {})}\n"
            f"resolver: MEMORY\nresolver_preload: {{ {self._account.public}: {account} }}\n"
        )

    def creds(self, name: str, expires_in: float | None = None) -> str:
        """A new user's `.creds` file."""
        user = Nkey("user")
        jwt = self._account.issue(user, name, {"subs": -1, "data": -1, "payload": -1}, expires_in)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def write_secret(path: Path, text: str) -> str:
    """A file that only its owner can read; gives its path as text. An older one is replaced in one step."""
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return str(path)
