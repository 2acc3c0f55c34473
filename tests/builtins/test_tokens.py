"""`JwtAuth` with tokens that another implementation has made, and keys that a server on TLS publishes."""

from __future__ import annotations

import base64
import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from support.client import Answer, fetch
from support.configs import Config, gateway_config, route
from support.guarded_brokers import Authority
from support.origin import Origin
from support.processes import GatewayProcess
from support.waiting import eventually

ISSUER = "https://issuer.test/"
PRIVATE = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEY_OF = {**{name: name for name in PRIVATE}, "RS512": "RS256", "PS256": "RS256", "PS384": "RS256"}


def public(key: str) -> Any:
    return PRIVATE[key].public_key()


def jwk(key: str) -> Config:
    algorithm = jwt.algorithms.get_default_algorithms()[key]
    return {**json.loads(algorithm.to_jwk(public(key))), "kid": f"key-{key}", "use": "sig"}


def token(algorithm: str, **changes: Any) -> str:
    claims = {"iss": ISSUER, "aud": ["api"], "sub": "alice", "exp": time.time() + 60, **changes}
    key = KEY_OF[algorithm]
    return jwt.encode(claims, PRIVATE[key], algorithm, {"kid": f"key-{key}"})  # type: ignore[arg-type]


def signed_with(secret: bytes, claims: Config) -> str:
    """HS256 by hand: the library does not lend itself to signing with a public key."""
    parts = [{"alg": "HS256", "kid": "key-RS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    message = b".".join(encoded)
    proof = base64.urlsafe_b64encode(hmac.digest(secret, message, "sha256")).rstrip(b"=")
    return (message + b"." + proof).decode()


@dataclass
class KeyServer:
    """Publishes a key set over TLS."""

    folder: Path
    keys: list[Config] = field(default_factory=list)
    asked: int = 0

    def __enter__(self) -> KeyServer:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked += 1
                body = json.dumps({"keys": server.keys}).encode()
                self.send_response(200 if self.path == "/keys" else 302)
                self.send_header("content-length", str(len(body)))
                self.send_header("location", "/keys")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...

        authority = Authority(self.folder, "keys")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.sign("127.0.0.1"))
        self.ca_file = authority.file
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def jwt_auth(keys: Config, **more: Any) -> Config:
    payload = {"issuer": ISSUER, "audience": "api", "headers": {"x-user": "sub"}, **keys, **more}
    return {"plugin": "JwtAuth", "payload": payload}


def bearing(gateway: GatewayProcess, token: str, path: str = "/") -> Answer:
    return fetch(gateway.address, "GET", path, {"authorization": f"Bearer {token}", "x-user": "root"})


ALL = ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "EdDSA"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, KeyServer, Origin]]:
    folder = tmp_path_factory.mktemp("keys")
    pem = folder / "public.pem"
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem.write_bytes(public("ES256").public_bytes(*form))
    with KeyServer(folder, [jwk(key) for key in PRIVATE]) as keys, Origin() as origin:
        fetched = {"url": f"{keys.url}/keys", "ca_file": keys.ca_file, "min_refresh_seconds": 1}
        strange = {"url": f"{keys.url}/keys"}
        moved = {"url": f"{keys.url}/moved", "ca_file": keys.ca_file}
        paths = [
            route("/", middleware=[jwt_auth({"jwks": fetched, "algorithms": ALL})]),
            route("/pem", middleware=[jwt_auth({"public_key": str(pem)})]),
            route("/strange", middleware=[jwt_auth({"jwks": strange})]),
            route("/moved", middleware=[jwt_auth({"jwks": moved})]),
        ]
        with GatewayProcess(gateway_config(origin.address, paths)) as gateway:
            yield gateway, keys, origin


Site = tuple[GatewayProcess, KeyServer, Origin]


@pytest.mark.parametrize("algorithm", ALL)
def test_tokens_of_every_kind_are_verified(site: Site, algorithm: str) -> None:
    gateway, _, origin = site
    genuine = token(algorithm)
    assert bearing(gateway, genuine).status == 200
    assert origin.received("/")[-1].header("x-user") == "alice"
    head, _, proof = genuine.split(".")
    forged = token(algorithm, sub="root").split(".")[1]
    assert bearing(gateway, f"{head}.{forged}.{proof}").status == 401
    assert bearing(gateway, token(algorithm, exp=time.time() - 60)).status == 401
    assert bearing(gateway, token(algorithm, aud="other")).status == 401


def test_a_public_key_is_no_secret_and_no_signature_is_none(site: Site) -> None:
    gateway, _, origin = site
    before = len(origin.received("/"))
    claims = {"iss": ISSUER, "aud": "api", "sub": "root", "exp": time.time() + 60}
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    confused = signed_with(public("RS256").public_bytes(*form), claims)
    for forged in (confused, jwt.encode(claims, None, "none", {"kid": "key-RS256"})):
        assert bearing(gateway, forged).status == 401
    assert len(origin.received("/")) == before


def test_a_public_key_from_a_file_verifies(site: Site) -> None:
    gateway, _, _ = site
    assert bearing(gateway, token("ES256"), "/pem").status == 200
    assert bearing(gateway, token("RS256"), "/pem").status == 401


def test_keys_from_somebody_who_is_not_trusted_or_has_moved_are_none(site: Site) -> None:
    gateway, _, _ = site
    for path in ("/strange", "/moved"):
        assert bearing(gateway, token("RS256"), path).status == 503
    assert "UnknownIssuer" in gateway.log and "write the address where the keys are" in gateway.log


def test_a_rotated_key_counts_and_a_silent_issuer_takes_nothing_away(site: Site) -> None:
    """The last one of this file: the keys are others afterwards."""
    gateway, keys, _ = site
    fresh = ed25519.Ed25519PrivateKey.generate()
    algorithm = jwt.algorithms.get_default_algorithms()["EdDSA"]
    keys.keys = [{**json.loads(algorithm.to_jwk(fresh.public_key())), "kid": "fresh"}]
    claims = {"iss": ISSUER, "aud": "api", "sub": "alice", "exp": time.time() + 600}
    rotated = jwt.encode(claims, fresh, "EdDSA", {"kid": "fresh"})
    eventually(lambda: bearing(gateway, rotated).status == 200, "the rotated key")
    assert bearing(gateway, token("EdDSA")).status == 401
    keys.keys = []
    stranger = jwt.encode(claims, fresh, "EdDSA", {"kid": "nobody's"})
    asked = keys.asked
    eventually(lambda: bearing(gateway, stranger).status == 401 and keys.asked > asked, "another fetch")
    assert bearing(gateway, rotated).status == 200
