"""TLS handshakes: which certificate, which versions, who is refused, and what never holds others up."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from support.certificates import Authority, names_shown
from support.client import Connection, exchange_bytes
from support.configs import gateway_config
from support.origin import Origin
from support.processes import GatewayProcess, Start


@dataclass
class Secure:
    """A gateway with three certificates on two threads, and who believes them."""

    gateway: GatewayProcess
    origin: Origin
    authority: Authority

    def connect(
        self, name: str | None, tls: ssl.SSLContext | None = None, **more: ssl.SSLSession
    ) -> Connection:
        """A connection that asks for a name."""
        tls = tls or self.authority.careless_client()
        return Connection(self.gateway.tls_address, tls=tls, server_name=name, **more)

    def shown(self, name: str | None) -> list[str]:
        """The names in the certificate for whoever asks for this one."""
        with self.connect(name) as connection:
            assert isinstance(connection.socket, ssl.SSLSocket)
            return names_shown(connection.socket)


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[Secure]:
    certificates = [
        authority.issue("first", "first.test"),
        authority.issue("wild", "*.wild.test"),
        authority.issue("exact", "exact.wild.test", "other.test"),
    ]
    with Origin() as origin:
        config = gateway_config(
            origin.address,
            http=[],
            https=["127.0.0.1:0"],
            tls=certificates,
            runtime={"threads": 2},
            limits={"tls_handshake_timeout_ms": 700},
        )
        with GatewayProcess(config) as gateway:
            yield Secure(gateway, origin, authority)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("first.test", ["first.test"]),
        ("exact.wild.test", ["exact.wild.test", "other.test"]),
        ("EXACT.wild.test", ["exact.wild.test", "other.test"]),
        ("other.test", ["exact.wild.test", "other.test"]),
        ("any.wild.test", ["*.wild.test"]),
        ("two.labels.wild.test", ["first.test"]),
        ("wild.test", ["first.test"]),
        ("unknown.test", ["first.test"]),
        (None, ["first.test"]),
    ],
)
def test_the_name_that_a_client_asks_for_picks_the_certificate(
    secure: Secure, asked: str | None, shown: list[str]
) -> None:
    assert secure.shown(asked) == shown


def test_a_client_that_checks_gets_its_answers_over_tls(secure: Secure) -> None:
    assert [url.partition(":")[0] for url in secure.gateway.urls] == ["https"]
    with secure.connect("any.wild.test", secure.authority.client()) as connection:
        for number in range(5):
            answer = connection.request("POST", f"/secure-{number}", {}, b"x" * 40_000 * number)
            assert (answer.status, answer.json()["body_size"]) == (200, 40_000 * number)
    (request,) = secure.origin.received("/secure-3")
    assert request.header("x-forwarded-proto") == "https"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken_with_forward_secrecy_and_authenticated_encryption(
    secure: Secure, version: ssl.TLSVersion
) -> None:
    tls = secure.authority.client()
    tls.minimum_version = tls.maximum_version = version
    with secure.connect("first.test", tls) as connection:
        assert connection.request("GET", "/version").status == 200
        assert isinstance(connection.socket, ssl.SSLSocket)
        cipher = connection.socket.cipher()
        assert cipher is not None
        suite = cipher[0]
    assert suite.startswith("TLS_" if version is ssl.TLSVersion.TLSv1_3 else "ECDHE-")
    assert "GCM" in suite or "CHACHA20" in suite


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(secure: Secure, version: ssl.TLSVersion) -> None:
    tls = secure.authority.careless_client()
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        tls.minimum_version = version
    with pytest.warns(DeprecationWarning):
        tls.maximum_version = version
    with pytest.raises(ssl.SSLError, match=r"alert (protocol version|handshake failure)"):
        secure.connect("first.test", tls)


@pytest.mark.parametrize(
    "suites", ["AES128-SHA:AES256-SHA", "AES128-GCM-SHA256", "ECDHE+AES+SHA1:ECDHE+AES+SHA256", "DHE"]
)
def test_weak_suites_are_refused(secure: Secure, suites: str) -> None:
    tls = secure.authority.careless_client()
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers(f"{suites}:!AESGCM:@SECLEVEL=0" if "+" in suites else f"{suites}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="handshake failure"):
        secure.connect("first.test", tls)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_comes_back_resumes_on_whatever_thread(secure: Secure, version: ssl.TLSVersion) -> None:
    tls = secure.authority.client()
    tls.minimum_version = tls.maximum_version = version
    with secure.connect("first.test", tls) as connection:
        connection.request("GET", "/first")
        assert isinstance(connection.socket, ssl.SSLSocket)
        session = connection.socket.session
        assert session is not None
    # The kernel deals connections out: some of these go to the other thread.
    for _ in range(10):
        with secure.connect("first.test", tls, session=session) as connection:
            assert connection.request("GET", "/again").status == 200
            assert isinstance(connection.socket, ssl.SSLSocket)
            assert connection.socket.session_reused


def test_protocols_are_agreed_on_or_the_client_is_told(secure: Secure) -> None:
    tls = secure.authority.client()
    tls.set_alpn_protocols(["spdy/1", "http/1.1"])
    with secure.connect("first.test", tls) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.selected_alpn_protocol() == "http/1.1"
    tls.set_alpn_protocols(["acme-tls/1", "spdy/1"])
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        secure.connect("first.test", tls)


def test_a_challenge_that_nobody_waits_for_is_refused(secure: Secure) -> None:
    tls = secure.authority.careless_client()
    tls.set_alpn_protocols(["acme-tls/1"])
    with pytest.raises(ssl.SSLError, match="alert"):
        secure.connect("first.test", tls)


def test_plain_http_is_told_what_is_spoken_here(secure: Secure) -> None:
    said = exchange_bytes(secure.gateway.tls_address, b"GET / HTTP/1.1\r\nhost: first.test\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"content-length: {len(body)}".encode() in head
    assert b"https://" in body
    assert secure.origin.received("/") == []


def test_stalled_handshakes_are_cut_off_and_hold_up_nobody(secure: Secure) -> None:
    # More than there are threads, each at another point.
    stops = [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"] * 2
    with ExitStack() as stack:
        stalled = [stack.enter_context(Connection(secure.gateway.tls_address)) for _ in stops]
        for connection, said in zip(stalled, stops, strict=True):
            connection.send(said)
        with secure.connect("first.test") as connection:
            assert connection.request("GET", "/meanwhile").status == 200
        for connection in stalled:
            assert connection.read_until_closed() == b""


def test_garbage_ends_in_an_alert(secure: Secure) -> None:
    said = exchange_bytes(secure.gateway.tls_address, b"\x16\x03\x01\x00\x05hello")
    assert said[:1] == b"\x15" or said == b""
    assert secure.shown("other.test") == ["exact.wild.test", "other.test"]


def test_many_clients_shake_hands_side_by_side(secure: Secure) -> None:
    tls = secure.authority.client()

    def visit(number: int) -> int:
        with secure.connect(f"n{number}.wild.test", tls) as connection:
            return sum(connection.request("GET", f"/many-{number}").status for _ in range(5))

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(visit, range(10))) == [1000] * 10


def test_handshakes_count_as_connections(authority: Authority, start: Start) -> None:
    certificate = authority.issue("few", "few.test")
    gateway = start(https=["127.0.0.1:0"], http=[], tls=[certificate], limits={"max_connections": 1})
    tls = authority.client()
    with socket.create_connection(gateway.address, timeout=10) as silent:
        with pytest.raises(TimeoutError):
            Connection(gateway.address, tls=tls, server_name="few.test", timeout=0.5)
        silent.close()
    with Connection(gateway.address, tls=tls, server_name="few.test") as connection:
        assert connection.request("GET", "/now").status == 200
