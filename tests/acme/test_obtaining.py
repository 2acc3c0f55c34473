"""Certificates from a real authority: obtained, kept, used again, renewed."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

from acme_site import Site
from cryptography import x509
from support.client import fetch
from support.configs import Config
from support.pebble import Pebble, certificate_for, free_ports
from support.processes import NYLON, GatewayProcess, Process
from support.waiting import eventually


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


def files(storage: Path, suffix: str) -> list[Path]:
    return sorted(path for path in storage.rglob(f"*{suffix}") if not path.name.startswith("."))


def test_certificate_is_obtained_over_plain_http(site: Site, pebble: Pebble) -> None:
    with GatewayProcess(site.config(site.certificate("a.test", "b.test"))) as gateway:
        shown = site.await_shown("a.test", pebble, gateway)
        assert sorted(names(shown)) == ["a.test", "b.test"]
        assert site.shown("b.test", pebble) == shown
        # What is no order's is the routes' business.
        path = "/.well-known/acme-challenge/of-somebody-else"
        assert fetch(("127.0.0.1", site.http_port), "GET", path).status == 200
        assert len(site.origin.received(path)) == 1
    assert pebble.issued == 1


def test_certificate_is_obtained_over_tls(site: Site, pebble: Pebble) -> None:
    with GatewayProcess(site.config(site.certificate("a.test", "b.test"), http=[])) as gateway:
        shown = site.await_shown("b.test", pebble, gateway)
        assert sorted(names(shown)) == ["a.test", "b.test"]
        assert "challenge=tls-alpn-01" in gateway.log.replace('"', "")


def test_challenge_that_is_written_is_used(site: Site, pebble: Pebble) -> None:
    certificate = site.certificate("a.test", challenge="tls-alpn-01")
    with GatewayProcess(site.config(certificate)) as gateway:
        site.await_shown("a.test", pebble, gateway)
        assert "challenge=tls-alpn-01" in gateway.log.replace('"', "")


def test_what_is_kept_is_for_its_owner_alone(site: Site, pebble: Pebble) -> None:
    with GatewayProcess(site.config(site.certificate("a.test"))) as gateway:
        site.await_shown("a.test", pebble, gateway)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [site.storage, *site.storage.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert len(files(site.storage, ".pem")) == len(files(site.storage, ".json")) == 1
    assert not list(site.storage.rglob("*.new"))


def test_restart_needs_no_network(site: Site) -> None:
    config = site.config(site.certificate("a.test"))
    with site.authority.running() as pebble:
        with GatewayProcess(config) as gateway:
            first = site.await_shown("a.test", pebble, gateway)
        root = pebble.root
    with GatewayProcess(config) as gateway:
        assert certificate_for("a.test", site.https_port, root) == first
        assert "is ordered" not in gateway.log


def test_file_that_is_not_whole_is_obtained_anew(site: Site) -> None:
    config = site.config(site.certificate("a.test"))
    with site.authority.running() as pebble, GatewayProcess(config) as gateway:
        first = site.await_shown("a.test", pebble, gateway)
    (path,) = files(site.storage, ".pem")
    text = path.read_text()
    begin = "-----BEGIN CERTIFICATE-----"
    # Cut between two certificates it is still PEM.
    path.write_text(text[: text.rindex(begin)])
    # The authority has forgotten everything, so its account is gone as well.
    with site.authority.running() as pebble, GatewayProcess(config) as gateway:
        again = site.await_shown("a.test", pebble, gateway)
        assert again.serial_number != first.serial_number
        assert "is of no use and is obtained anew" in gateway.log
        assert "does not know the account" in gateway.log
    assert path.read_text().count(begin) == text.count(begin)


def test_certificate_is_renewed_when_a_third_of_its_life_is_left(site: Site) -> None:
    with (
        site.authority.running(validity=7) as pebble,
        GatewayProcess(site.config(site.certificate("a.test"))) as gateway,
    ):
        first = site.await_shown("a.test", pebble, gateway)
        renewed = eventually(
            lambda: (now := site.shown("a.test", pebble)) and now != first and now, "another one", within=60
        )
        assert isinstance(renewed, x509.Certificate)
        # Six seconds of life, of which two are left: certificates count whole ones.
        age = (renewed.not_valid_before_utc - first.not_valid_before_utc).total_seconds()
        assert age >= 3
        assert fetch(gateway.address, "GET", "/x").status == 200


def test_reload_orders_only_what_is_new(site: Site, pebble: Pebble) -> None:
    one, two = site.certificate("a.test"), site.certificate("b.test")
    with GatewayProcess(site.config(one)) as gateway:
        first = site.await_shown("a.test", pebble, gateway)
        gateway.reload(site.config(one, two))
        site.await_shown("b.test", pebble, gateway)
        gateway.reload(site.config(two, one))
        assert site.shown("a.test", pebble) == first
        gateway.reload(site.config(two))
        assert site.shown("a.test", pebble) is None
        gateway.reload(site.config(one, two))
        assert site.shown("a.test", pebble) == first
        assert pebble.issued == 2
    assert len(files(site.storage, ".json")) == 1


def test_other_domains_are_another_certificate(site: Site, pebble: Pebble) -> None:
    with GatewayProcess(site.config(site.certificate("a.test"))) as gateway:
        first = site.await_shown("a.test", pebble, gateway)
        gateway.reload(site.config(site.certificate("a.test", "b.test")))
        # Until the other is there, nobody is without one.
        assert site.shown("a.test", pebble) is not None
        both = site.await_shown("b.test", pebble, gateway)
        assert site.shown("a.test", pebble) == both != first
    assert len(files(site.storage, ".pem")) == 2


def test_processes_that_share_a_directory_order_once(site: Site, pebble: Pebble) -> None:
    (other_port,) = free_ports(1)
    certificate = site.certificate("a.test", challenge="tls-alpn-01")
    with (
        GatewayProcess(site.config(certificate)) as one,
        GatewayProcess(site.config(certificate, http=[], https=[f"127.0.0.1:{other_port}"])) as two,
    ):
        first = site.await_shown("a.test", pebble, one)
        assert site.await_shown("a.test", pebble, two, port=other_port) == first
    assert pebble.issued == 1


def test_status_shows_certificates(site: Site, pebble: Pebble, tmp_path: Path) -> None:
    config: Config = site.config(site.certificate("a.test"), control=str(tmp_path / "nylon.sock"))
    file = tmp_path / "nylon.yaml"
    file.write_text(json.dumps(config))
    with Process([NYLON, "run", "-c", file], cwd=tmp_path) as gateway:
        shown = eventually(
            lambda: gateway.running and site.shown("a.test", pebble), "a certificate", within=30
        )
        assert isinstance(shown, x509.Certificate)
        asked = subprocess.run(
            [NYLON, "status", "-c", file], capture_output=True, text=True, check=True, timeout=60
        )
        (line,) = (line for line in asked.stdout.splitlines() if line.startswith("certificate for a.test:"))
        until = shown.not_valid_after_utc.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        assert f"valid until {until}, to be renewed at" in line
