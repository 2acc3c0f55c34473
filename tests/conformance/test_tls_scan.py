"""What a scanner finds that tries every protocol and every cipher suite there is, weak ones too: sslyze."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.origin import Origin
from support.processes import GatewayProcess

FORBIDDEN = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
STRONG = ("AES_128_GCM", "AES_256_GCM", "CHACHA20_POLY1305")


@pytest.fixture(scope="module")
def scan(
    secure: tuple[GatewayProcess, Origin, Authority], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The scanner's findings about one gateway."""
    gateway, _, _ = secure
    host, port = gateway.tls_address
    report = tmp_path_factory.mktemp("scan") / "report.json"
    protocols = ("sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3")
    attacks = ("heartbleed", "openssl_ccs", "robot", "reneg", "compression", "fallback", "early_data")
    options = [f"--{name}" for name in (*protocols, *attacks)]
    program = Path(sys.executable).parent / "sslyze"
    run = subprocess.run(
        [program, *options, f"--json_out={report}", "--sni=localhost", f"{host}:{port}"],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert report.exists(), run.stdout + run.stderr
    (result,) = json.loads(report.read_text())["server_scan_results"]
    assert result["scan_status"] == "COMPLETED", result
    found: dict[str, Any] = {}
    for name, attempt in result["scan_result"].items():
        if attempt["status"] == "NOT_SCHEDULED":
            continue
        assert attempt["status"] == "COMPLETED", (name, attempt["error_trace"])
        found[name] = attempt["result"]
    return found


def accepted(scan: dict[str, Any], protocol: str) -> list[str]:
    """The suites of one protocol that were agreed on."""
    suites = scan[f"{protocol}_cipher_suites"]["accepted_cipher_suites"]
    return [suite["cipher_suite"]["name"] for suite in suites]


@pytest.mark.parametrize("protocol", FORBIDDEN)
def test_no_old_protocol_is_spoken(scan: dict[str, Any], protocol: str) -> None:
    assert accepted(scan, protocol) == []


@pytest.mark.parametrize("protocol", ["tls_1_2", "tls_1_3"])
def test_every_suite_is_a_strong_one(scan: dict[str, Any], protocol: str) -> None:
    suites = accepted(scan, protocol)
    assert suites
    assert [suite for suite in suites if not any(strong in suite for strong in STRONG)] == []
    if protocol == "tls_1_2":
        assert [suite for suite in suites if "_ECDHE_" not in suite] == [], "without forward secrecy"


def test_no_known_attack_finds_anything(scan: dict[str, Any]) -> None:
    assert not scan["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not scan["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert scan["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert not scan["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert not scan["tls_compression"]["supports_compression"]
    assert not scan["tls_1_3_early_data"]["supports_early_data"], "a request could be replayed"
