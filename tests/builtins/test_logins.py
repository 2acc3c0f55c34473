"""`BasicAuth` with files that the real `htpasswd` writes."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from support.client import Answer, fetch
from support.configs import gateway_config, route
from support.origin import Origin
from support.processes import GatewayProcess
from support.waiting import eventually

from nylon import ConfigError, Gateway


def htpasswd(file: Path, name: str, password: str, *flags: str) -> None:
    program = shutil.which("htpasswd")
    assert program, "there is no htpasswd here: `apt-get install apache2-utils`"
    create = [] if file.exists() else ["-c"]
    command = [program, "-b", *create, *(flags or ("-B", "-C", "5")), str(file), name, password]
    subprocess.run(command, check=True, capture_output=True)


def login(gateway: GatewayProcess, name: str, password: str) -> Answer:
    token = base64.b64encode(f"{name}:{password}".encode()).decode()
    return fetch(gateway.address, "GET", "/", {"authorization": f"Basic {token}"})


def test_users_of_htpasswd_log_in_as_soon_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "users"
    htpasswd(file, "alice", "one")
    limit = {"plugin": "BasicAuth", "payload": {"file": str(file), "realm": "shop"}}
    with Origin() as origin:
        with GatewayProcess(gateway_config(origin.address, [route("/", middleware=[limit])])) as gateway:
            assert login(gateway, "alice", "one").status == 200
            assert login(gateway, "alice", "two").status == 401
            assert fetch(gateway.address, "GET", "/").header("www-authenticate") == (
                'Basic realm="shop", charset="UTF-8"'
            )
            htpasswd(file, "bob", "pässwörd")
            eventually(lambda: login(gateway, "bob", "pässwörd").status == 200, "a new user")
            htpasswd(file, "alice", "two")
            eventually(lambda: login(gateway, "alice", "two").status == 200, "a new password")
            assert login(gateway, "alice", "one").status == 401
        assert {request.header("x-authenticated-user") for request in origin.received("/")} == {
            "alice",
            "bob",
        }
        assert not any(request.header("authorization") for request in origin.received("/"))


@pytest.mark.parametrize(("flags", "what"), [(["-m"], "MD5"), (["-s"], "SHA-1"), (["-p"], "plain text")])
def test_a_file_with_weaker_hashes_is_refused_with_its_line(
    tmp_path: Path, flags: list[str], what: str
) -> None:
    file = tmp_path / "users"
    htpasswd(file, "alice", "one")
    htpasswd(file, "bob", "s3cret", *flags)
    limit = {"plugin": "BasicAuth", "payload": {"file": str(file)}}
    with pytest.raises(ConfigError, match=what) as refused:
        Gateway(gateway_config(("127.0.0.1", 1), [route("/", middleware=[limit])]))
    assert f"{file}:2: " in str(refused.value) and "s3cret" not in str(refused.value)
