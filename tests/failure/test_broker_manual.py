"""The ways into a broker that docs/config.md shows, each tried against a server that is configured so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from support.configs import Config
from support.guarded_brokers import PASSWORD, Authority, by_creds, by_nkey, by_token
from support.identities import Operator, write_secret
from support.waiting import eventually

from nylon import Gateway
from nylon.embedded import NatsServer

ROOT = Path(__file__).resolve().parents[2]


def manual() -> dict[str, Config]:
    """The messaging connections in the examples of docs/config.md, by name."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "config.md").read_text(), re.DOTALL)
    sections = [yaml.safe_load(block).get("messaging", []) for block in blocks]
    return {connection["name"]: connection for section in sections for connection in section}


def as_the_manual_says(name: str, folder: Path) -> str:
    """The configuration of a server that lets the manual's connection in, whose files are put into `folder`."""
    if name == "by_password":
        return f"authorization {{ user: gateway, password: {PASSWORD} }}"
    if name == "encrypted":
        authority = Authority(folder, "ca")
        assert authority.file == str(folder / "ca.pem")
        return authority.server("127.0.0.1")
    if name == "private":
        authority, operator = Authority(folder, "ca"), Operator()
        cert, key = authority.sign("gateway")
        Path(cert).rename(folder / "gateway.pem")
        Path(key).rename(folder / "gateway-key.pem")
        write_secret(folder / "gateway.creds", operator.creds("gateway"))
        verify = f', ca_file: "{authority.file}", verify: true'
        return operator.config + authority.server("nats.internal", more=verify)
    return {"by_token": by_token, "by_nkey": by_nkey, "by_jwt": by_creds}[name](folder).server


@pytest.mark.parametrize("name", ["by_password", "by_token", "by_nkey", "by_jwt", "encrypted", "private"])
def test_each_example_of_the_manual_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    connection = manual()[name]
    server_config = as_the_manual_says(name, tmp_path)
    monkeypatch.setenv("NATS_PASSWORD", PASSWORD)
    monkeypatch.setenv("NATS_TOKEN", PASSWORD)
    if name == "encrypted":
        monkeypatch.setenv(
            "SSL_CERT_FILE", str(tmp_path / "ca.pem")
        )  # the system's authorities, for this test
    with NatsServer(config=server_config) as server:
        scheme = connection["servers"][0].partition(":")[0]
        config = {
            "http": ["127.0.0.1:0"],
            "messaging": [{**connection, "servers": [server.url.replace("nats", scheme, 1)]}],
            "plugins": [{"name": "p", "messaging": name, "group": "g"}],
        }
        file = tmp_path / "nylon.yaml"
        file.write_text(yaml.safe_dump(config))
        with Gateway.from_file(file) as gateway:
            # It is in, and now misses a worker.
            eventually(lambda: "no worker" in gateway.status()["plugins"][0]["reason"], "a connection")


def test_the_manual_has_an_example_of_each_way() -> None:
    ways = {key for connection in manual().values() for key in connection.get("auth", {})}
    assert ways == {"user", "password", "token", "nkey", "creds"}
    assert {connection.get("tls") is True for connection in manual().values()} == {True, False}
