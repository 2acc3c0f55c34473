"""What happens where an authority cannot be reached, refuses, or wants more than it was given."""

from __future__ import annotations

import base64
import re

from acme_site import Site
from support.client import fetch
from support.pebble import Pebble, free_ports
from support.processes import GatewayProcess
from support.waiting import eventually

SECRET = base64.urlsafe_b64encode(b"thirty-two bytes that are no key").decode().rstrip("=")


def complaint(gateway: GatewayProcess, domain: str) -> str:
    """The first line of the log about a certificate that could not be had."""

    def look() -> str | None:
        lines = [line for line in gateway.log.splitlines() if "could not be" in line and domain in line]
        return lines[0] if lines else None

    line = eventually(look, f"a complaint about {domain}", within=30)
    assert line is not None
    return line


def seconds_until_next_try(line: str) -> int:
    found = re.search(r"tried again in (\d+) s", line)
    assert found is not None, line
    return int(found[1])


def test_authority_that_is_down_holds_up_nobody(site: Site) -> None:
    with (
        site.authority.running() as pebble,
        GatewayProcess(site.config(site.certificate("a.test"))) as gateway,
    ):
        site.await_shown("a.test", pebble, gateway)
    certificates = site.certificate("a.test"), site.certificate("b.test")
    with GatewayProcess(site.config(*certificates)) as gateway:
        assert fetch(gateway.address, "GET", "/x").status == 200
        line = complaint(gateway, "b.test")
        assert site.authority.directory_url in line
        assert "Connection refused" in line
        assert seconds_until_next_try(line) <= 2
        # It comes up, and is asked again without anybody's help.
        with site.authority.running() as pebble:
            site.await_shown("b.test", pebble, gateway, within=60)


def test_authority_that_refuses_is_left_alone_for_a_while(site: Site) -> None:
    certificates = site.certificate("refused.test"), site.certificate("a.test")
    with (
        site.authority.running(blocked=["refused.test"]) as pebble,
        GatewayProcess(site.config(*certificates)) as gateway,
    ):
        line = complaint(gateway, "refused.test")
        assert site.authority.directory_url in line
        assert "refused.test" in line.partition("answered")[2]
        assert "rejectedIdentifier" in line
        assert 30 <= seconds_until_next_try(line) <= 60
        # The other certificate has nothing to do with it.
        site.await_shown("a.test", pebble, gateway)
        assert fetch(gateway.address, "GET", "/x").status == 200


def test_proof_that_is_not_seen_is_told_with_what_was_seen(site: Site) -> None:
    (elsewhere,) = free_ports(1)
    # The authority looks at a port where nobody is.
    certificate = site.certificate("a.test", challenge="http-01")
    with (
        site.authority.running(),
        GatewayProcess(site.config(certificate, http=[f"127.0.0.1:{elsewhere}"])) as gateway,
    ):
        line = complaint(gateway, "a.test")
        assert "did not see the proof (http-01) for a.test" in line
        assert "connection refused" in line
        assert 30 <= seconds_until_next_try(line) <= 60


def test_external_account_opens_the_door(site: Site) -> None:
    certificate = site.certificate("a.test", eab_kid="kid-1", eab_hmac_key=SECRET, email="me@a.test")
    with (
        site.authority.running(external_accounts={"kid-1": SECRET}) as pebble,
        GatewayProcess(site.config(certificate)) as gateway,
    ):
        site.await_shown("a.test", pebble, gateway)
        assert SECRET not in gateway.log


def test_without_the_external_account_it_is_told_what_to_set(site: Site) -> None:
    with (
        site.authority.running(external_accounts={"kid-1": SECRET}),
        GatewayProcess(site.config(site.certificate("a.test"))) as gateway,
    ):
        assert "set `eab_kid` and `eab_hmac_key`" in complaint(gateway, "a.test")


def test_authority_that_nobody_vouches_for_is_not_asked(site: Site, pebble: Pebble) -> None:
    certificate = site.certificate("a.test")
    del certificate["acme"]["directory_ca_file"]
    with GatewayProcess(site.config(certificate)) as gateway:
        assert "invalid peer certificate" in complaint(gateway, "a.test")
    assert "newAccount" not in pebble.log
