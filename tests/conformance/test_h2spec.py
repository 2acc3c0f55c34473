"""HTTP/2 as h2spec reads RFC 7540 and 7541: every case of its three sections, the strict ones too."""

from __future__ import annotations

import re
import subprocess

from support.certificates import Authority
from support.golang import tool
from support.origin import Origin
from support.processes import GatewayProcess

CASES = 146
"""How many cases there are; fewer would mean that some were not tried."""


def h2spec(gateway: GatewayProcess, *options: str) -> None:
    """Run it; fails with its report of the failed cases."""
    host, port = gateway.address
    program = tool("github.com/summerwind/h2spec/cmd/h2spec")
    place = ["--host", host, "--port", str(port), "--timeout", "5"]
    run = subprocess.run(
        [program, "generic", "http2", "hpack", "--strict", *place, *options],
        capture_output=True,
        text=True,
        timeout=150,
    )
    outcome = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", run.stdout)
    assert outcome is not None, run.stdout + run.stderr
    assert outcome.groups() == (str(CASES), str(CASES), "0", "0"), run.stdout[run.stdout.find("Failures:") :]
    assert run.returncode == 0


def test_a_plain_listener_passes_every_case(plain: tuple[GatewayProcess, Origin]) -> None:
    gateway, _ = plain
    h2spec(gateway)


def test_a_listener_with_tls_passes_every_case(secure: tuple[GatewayProcess, Origin, Authority]) -> None:
    gateway, _, _ = secure
    h2spec(gateway, "--tls", "--insecure")
