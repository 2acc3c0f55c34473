"""Certificates that change while the gateway serves: on disk, and by a reload."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import Authority, replace, serial_shown
from support.client import Address, Connection
from support.configs import gateway_config
from support.origin import Origin
from support.processes import GatewayProcess, Start
from support.waiting import eventually

NAME = "swap.test"


def shown(address: Address, authority: Authority, name: str = NAME) -> int:
    """The serial number of the certificate that a new client gets."""
    with Connection(address, tls=authority.careless_client(), server_name=name) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        return serial_shown(connection.socket)


def await_another(than: int, address: Address, authority: Authority) -> int:
    """Wait until new clients get another certificate; its serial number."""
    eventually(lambda: shown(address, authority) != than, "another certificate")
    return shown(address, authority)


@contextmanager
def visitors(address: Address, tls: ssl.SSLContext) -> Iterator[Callable[[], int]]:
    """Clients that shake hands and ask, over and over; how often they did. Fails if anything ever went wrong."""
    stop, done, failures = threading.Event(), [0] * 4, []

    def visit(number: int) -> None:
        while not stop.is_set():
            try:
                with Connection(address, tls=tls, server_name=NAME) as connection:
                    assert connection.request("GET", "/visit").status == 200
                    assert connection.request("POST", "/visit", {}, b"x" * 10_000).status == 200
                done[number] += 1
            except Exception as error:  # whatever it is, the test is about it
                failures.append(error)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(done)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert failures == []


def test_changed_files_are_served_without_a_failed_request(authority: Authority, start: Start) -> None:
    gateway = start(http=[], https=["127.0.0.1:0"], tls=[authority.issue("load", NAME)])
    before = shown(gateway.address, authority)
    with visitors(gateway.address, authority.client()) as done:
        eventually(lambda: done() > 5, "some visits")
        for _ in range(3):
            authority.issue("load", NAME)
            before = await_another(before, gateway.address, authority)
        count = done()
        eventually(lambda: done() > count + 5, "visits with the last one")
    assert "is another now" in gateway.log


def test_a_broken_file_keeps_the_certificate_and_says_why(authority: Authority, start: Start) -> None:
    certificate = authority.issue("broken", NAME)
    gateway = start(http=[], https=["127.0.0.1:0"], tls=[certificate])
    before = shown(gateway.address, authority)
    cert, key = Path(certificate["cert"]), Path(certificate["key"])
    good = cert.read_bytes()

    replace(cert, b"-----BEGIN CERTIFICATE-----\nnonsense")
    eventually(lambda: f"the certificate for {NAME} stays the one before" in gateway.log, "a complaint")
    assert f"the file `{cert}` is no PEM file" in gateway.log
    assert shown(gateway.address, authority) == before

    authority.issue("other", NAME)
    replace(cert, (authority.folder / "other.pem").read_bytes())
    eventually(lambda: "holds the key of another certificate" in gateway.log, "a complaint about the key")
    assert shown(gateway.address, authority) == before

    cert.unlink()
    eventually(lambda: gateway.log.count("stays the one before") >= 3, "a complaint about the missing file")
    assert shown(gateway.address, authority) == before

    # What was right all the time is no news; what is new and right is.
    replace(cert, good)
    replace(key, (authority.folder / "other.key").read_bytes())
    replace(cert, (authority.folder / "other.pem").read_bytes())
    await_another(before, gateway.address, authority)


def test_a_secret_that_kubernetes_swaps_is_served(authority: Authority, start: Start, tmp_path: Path) -> None:
    # As its volumes are: the files are links through one link, which is renamed for all of them at once.
    volume = tmp_path / "volume"

    def publish(version: str) -> None:
        authority.issue("secret", NAME)
        (volume / version).mkdir(parents=True)
        for suffix, name in (("pem", "tls.crt"), ("key", "tls.key")):
            replace(volume / version / name, (authority.folder / f"secret.{suffix}").read_bytes())
        (volume / "..data_tmp").symlink_to(version)
        (volume / "..data_tmp").rename(volume / "..data")

    publish("..1")
    for name in ("tls.crt", "tls.key"):
        (volume / name).symlink_to(Path("..data") / name)
    certificate = {
        "type": "custom",
        "cert": str(volume / "tls.crt"),
        "key": str(volume / "tls.key"),
        "domains": [NAME],
    }
    gateway = start(http=[], https=["127.0.0.1:0"], tls=[certificate])
    before = shown(gateway.address, authority)
    for version in ("..2", "..3"):
        publish(version)
        before = await_another(before, gateway.address, authority)
    assert "stays the one before" not in gateway.log


def test_a_file_that_is_written_in_place_behind_a_link_is_served(
    authority: Authority, start: Start, tmp_path: Path
) -> None:
    authority.issue("real", NAME)
    for suffix in ("pem", "key"):
        (tmp_path / f"link.{suffix}").symlink_to(authority.folder / f"real.{suffix}")
    certificate = {"cert": str(tmp_path / "link.pem"), "key": str(tmp_path / "link.key"), "domains": [NAME]}
    gateway = start(http=[], https=["127.0.0.1:0"], tls=[certificate])
    before = shown(gateway.address, authority)
    authority.issue("fresh", NAME)
    for suffix in ("key", "pem"):
        fresh = (authority.folder / f"fresh.{suffix}").read_bytes()
        (authority.folder / f"real.{suffix}").write_bytes(fresh)
    await_another(before, gateway.address, authority)


@pytest.fixture
def site(authority: Authority, origin: Origin) -> Iterator[tuple[GatewayProcess, dict[str, object]]]:
    """A gateway for plain and for TLS, and its configuration."""
    certificates = [authority.issue("swap", NAME), authority.issue("gone", "gone.test")]
    config = gateway_config(origin.address, https=["127.0.0.1:0"], tls=certificates)
    with GatewayProcess(config) as gateway:
        yield gateway, config


def test_a_reload_changes_certificates_and_keeps_connections(
    authority: Authority, site: tuple[GatewayProcess, dict[str, object]]
) -> None:
    gateway, config = site
    swapped = shown(gateway.tls_address, authority)
    gone = shown(gateway.tls_address, authority, "gone.test")
    with Connection(gateway.tls_address, tls=authority.client(), server_name="gone.test") as connection:
        assert connection.request("GET", "/before").status == 200
        assert gateway.reload({**config, "tls": [authority.issue("next", "next.test", NAME)]}) == 2
        assert connection.request("GET", "/after").status == 200
        nexts = {shown(gateway.tls_address, authority, name) for name in (NAME, "next.test", "gone.test")}
    assert len(nexts) == 1
    assert not nexts & {swapped, gone}


def test_an_address_may_change_what_it_speaks(
    authority: Authority, site: tuple[GatewayProcess, dict[str, object]]
) -> None:
    gateway, config = site
    plain, secure = gateway.address, gateway.tls_address
    at = [f"{host}:{port}" for host, port in (plain, secure)]
    with Connection(plain) as kept:
        assert kept.request("GET", "/plain").status == 200
        assert gateway.reload({**config, "http": [at[1]], "https": [at[0]]}) == 2
        assert kept.request("GET", "/still-plain").status == 200
    with Connection(plain, tls=authority.client(), server_name=NAME) as connection:
        assert connection.request("GET", "/secure-now").status == 200
    with Connection(secure) as connection:
        assert connection.request("GET", "/plain-now").status == 200
