"""Who a worker is to its broker, and how it knows the broker: credentials and TLS.

Each setting has the environment variable that the `nats` command line uses too. nats-py does the talking; three things
are different here. TLS that is asked for is insisted on (nats-py follows a server that offers none, and sends the
password in the clear). Seeds, credentials and certificates are read again at each connect, so that rotated ones
count without a restart. And a broker that ends the connection because the credentials have expired is asked again
with what is in the files by then.
"""

from __future__ import annotations

import base64
import logging
import os
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nats.errors
from nats.aio.client import Client

from nylon import _core
from nylon.errors import ConfigError

__all__ = ["AUTH_VARIABLES", "TLS_VARIABLES", "Access", "AccessClient", "completed", "without_user"]

logger = logging.getLogger("nylon.worker")

AUTH_VARIABLES = {
    "user": "NATS_USER",
    "password": "NATS_PASSWORD",
    "token": "NATS_TOKEN",
    "credentials": "NATS_CREDS",
    "nkey_seed": "NATS_NKEY",
}
"""The environment variable of each option that says who the worker is."""
TLS_VARIABLES = {
    "tls_ca": "NATS_CA",
    "tls_cert": "NATS_CERT",
    "tls_key": "NATS_KEY",
    "tls_hostname": "NATS_TLS_HOSTNAME",
}
"""The same for TLS."""

_EXPIRED = ("expired", "revoked", "authorization violation", "authentication timeout")
"""In an error of the broker: other credentials, or the same ones later, may do."""


def completed(given: Mapping[str, Any], servers: tuple[str, ...]) -> dict[str, Any]:
    """The options of `AUTH_VARIABLES` and `TLS_VARIABLES`, with what URLs and environment say, and clean `servers`.

    What is given wins over the environment: one way to say who the worker is leaves no room for another. Raises
    `ConfigError` where there are two ways, or half of one.
    """
    clean = tuple(without_user(server) for server in servers)
    in_urls = [user for user in map(_user_of, servers) if user]
    if any(user != in_urls[0] for user in in_urls):
        raise ConfigError(
            f"the URLs {', '.join(clean)} name different users: give user and password once, beside them"
        )
    auth = {name: given[name] for name in AUTH_VARIABLES if given.get(name)}
    if in_urls and auth:
        raise ConfigError(f"a user in the servers' URLs and {' and '.join(auth)}: give one of them")
    if in_urls:
        auth = in_urls[0]
    missing = {"user", "password"} - set(auth) if {"user", "password"} & set(auth) else set()
    for name in missing if auth else AUTH_VARIABLES:
        if value := os.environ.get(AUTH_VARIABLES[name]):
            auth[name] = value
    _check_one_way(auth)
    tls = {
        name: given.get(name) or os.environ.get(variable) or None for name, variable in TLS_VARIABLES.items()
    }
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if tls[one] and not tls[other]:
            raise ConfigError(f"{one} needs {other}: a certificate and its key belong together")
    return {**dict.fromkeys(AUTH_VARIABLES), **auth, **tls, "servers": clean}


def _check_one_way(auth: Mapping[str, Any]) -> None:
    ways = [name for name in ("user", "token", "nkey_seed", "credentials") if name in auth]
    if "password" in auth and "user" not in auth:
        ways.insert(0, "password")
    if len(ways) > 1:
        said = ", ".join(f"{name} ({AUTH_VARIABLES[name]})" for name in ways)
        raise ConfigError(f"more than one way to say who the worker is: {said}")
    if ("user" in auth) != ("password" in auth):
        raise ConfigError("user and password (NATS_USER, NATS_PASSWORD) belong together")


def without_user(server: str) -> str:
    """The URL without user and password, as it may stand in a log."""
    scheme, separator, rest = server.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _user_of(server: str) -> dict[str, Any]:
    """The options that a URL's `user:password@` or `token@` stand for."""
    user, _, _ = server.rpartition("://")[2].rpartition("@")
    if not user:
        return {}
    name, separator, password = user.partition(":")
    return {"user": unquote(name), "password": unquote(password)} if separator else {"token": unquote(name)}


@dataclass(frozen=True, kw_only=True)
class Access:
    """What of a worker's options concerns who it is and TLS; complete, see `completed`."""

    user: str | None
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)
    credentials: str | None
    nkey_seed: str | None
    tls: bool
    """Whether a connection without TLS is refused."""
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    tls_hostname: str | None

    def arguments(self) -> dict[str, Any]:
        """What nats-py's `connect` is given of it."""
        return {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            **({"tls_hostname": self.tls_hostname} if self.tls_hostname else {}),
        }

    def check(self) -> None:
        """Read every file once. Raises `ConfigError` naming the one that is broken; warns of one that all can read."""
        if self.nkey_seed:
            _core.sign_with_nkey(self.nkey_seed, b"")
        if self.credentials:
            _core.sign_with_creds(self.credentials, b"")
        self.ssl_context()
        for path in (self.nkey_seed, self.credentials, self.tls_key):
            if path and Path(path).stat().st_mode & stat.S_IROTH:
                logger.warning("everybody on this machine can read %s: chmod 600 it", path)

    def ssl_context(self) -> ssl.SSLContext:
        """The TLS settings, as the files are now. Raises `ConfigError` naming the one that is broken."""
        reading = f"the file {self.tls_ca}"
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert:
                reading = f"the files {self.tls_cert} and {self.tls_key}"
                # Without this, OpenSSL asks the terminal for the password of a key that has one.
                context.load_cert_chain(self.tls_cert, self.tls_key, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(f"TLS cannot use {reading}: {error}") from error
        return context

    def refusal(self, error: BaseException) -> str | None:
        """What to do about an error that no waiting can cure; None where waiting may."""
        if isinstance(error, ssl.SSLCertVerificationError):
            if "mismatch" in error.verify_message or "not valid for" in error.verify_message:
                return "its certificate is for another name: check the URL, or give tls_hostname (NATS_TLS_HOSTNAME)"
            return "its certificate is not trusted here: give its authority's as tls_ca (NATS_CA)"
        text = str(error).lower()
        if isinstance(error, NoCertificateError):
            return "it wants a certificate of the worker: give tls_cert and tls_key (NATS_CERT, NATS_KEY)"
        if isinstance(error, InsecureError):
            return "TLS is asked for here, and it speaks none"
        if "authorization" in text or "authentication" in text:
            if any((self.user, self.token, self.credentials, self.nkey_seed)):
                return (
                    "it refuses these credentials: check user and password, token, nkey or credentials file"
                )
            return "it wants credentials: give user and password, token, nkey_seed or credentials (NATS_USER, ...)"
        return None


class InsecureError(nats.errors.Error):
    """The broker speaks no TLS, and the worker insists on it."""


class NoCertificateError(nats.errors.Error):
    """The broker wants a client certificate, and the worker has none."""


class AccessClient(Client):
    """nats-py's client with an `Access`; see the head of this module for what is different, and why.

    It overrides private methods, hence the narrow version range in pyproject.toml and the tests in
    tests/failure/test_broker_access.py.
    """

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access
        self._signing: str | None = None

    async def connect(self, **arguments: Any) -> None:  # type: ignore[override]  # all of nats-py's, by keyword
        """Connect as nats-py does; `user_jwt_cb` and `signature_cb` are this class's own."""
        if self._access.nkey_seed or self._access.credentials:
            arguments["signature_cb"] = self._sign
        if self._access.credentials:
            arguments["user_jwt_cb"] = self._jwt
        await super().connect(**arguments)

    def _sign(self, nonce: str) -> bytes:
        try:
            if self._access.credentials:
                self._signing, signature = _core.sign_with_creds(self._access.credentials, nonce.encode())
            else:
                assert self._access.nkey_seed is not None, "one of the two is why this is called"
                self._public_nkey, signature = _core.sign_with_nkey(self._access.nkey_seed, nonce.encode())
        except ConfigError as error:
            # Of nats-py's own kind, or its reconnect ends here for good.
            raise nats.errors.Error(str(error)) from error
        return base64.b64encode(signature)

    def _jwt(self) -> bytes:
        """nats-py asks for it right after the signature."""
        assert self._signing is not None, "the signature is made first"
        return self._signing.encode()

    @property
    def last_server(self) -> str:
        """`host:port` of the server that it is connected to, or was."""
        return self._current_server.uri.netloc if self._current_server is not None else ""

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """nats-py asks for it at each handshake."""
        try:
            return self._access.ssl_context()
        except ConfigError as error:
            raise nats.errors.Error(str(error)) from error

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """See to it that nats-py's next step is the TLS handshake where TLS is wanted."""
        if initial_connection and self._access.tls and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise InsecureError("the broker speaks no TLS, and this connection insists on it")
            info["tls_required"] = True
        if initial_connection and info.get("tls_verify") and not self._access.tls_cert:
            # Said here, since the broker's alert is as often as not lost with the connection.
            raise NoCertificateError("the broker verifies clients, and this one has no certificate")
        await super()._process_info(info, initial_connection)

    async def _process_err(self, err_msg: str) -> None:
        """nats-py closes for good on any error but two kinds; expired credentials may have been renewed."""
        if self.is_connected and any(reason in err_msg.lower() for reason in _EXPIRED):
            await self._process_op_err(nats.errors.Error(f"nats: {err_msg.strip(chr(39))}"))
            return
        await super()._process_err(err_msg)
