"""What the command line says of addresses and certificates."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from support.certificates import Authority
from support.command import NYLON, environment
from support.configs import gateway_config
from support.processes import Start


def nylon(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One run of `nylon`."""
    return subprocess.run(
        [*NYLON, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )


def check(folder: Path, *certificates: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """`nylon check` of a configuration with these certificates."""
    path = folder / "nylon.yaml"
    path.write_text(json.dumps(gateway_config(None, https=["127.0.0.1:0"], tls=certificates, routes=[])))
    return nylon("check", "-c", path)


def test_check_takes_what_can_be_served_and_tells_of_the_rest(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("good", "good.test"), authority.issue("other", "other.test")
    done = check(tmp_path, good, other)
    assert done.returncode == 0, done.stderr

    done = check(tmp_path, {**good, "key": other["key"]})
    assert done.returncode == 1
    assert "nylon.yaml:1:" in done.stderr
    assert f"the file `{other['key']}` holds the key of another certificate" in done.stderr

    done = check(tmp_path, authority.issue("old", "old.test", expired=True))
    assert done.returncode == 0, done.stderr
    assert "the certificate has expired" in done.stderr


def test_status_says_what_each_address_speaks(authority: Authority, start: Start, tmp_path: Path) -> None:
    control = tmp_path / "nylon.sock"
    gateway = start(
        https=["127.0.0.1:0"], tls=[authority.issue("status", "status.test")], control=str(control)
    )
    assert [url.partition(":")[0] for url in gateway.urls] == ["http", "https"]
    done = nylon("status", "--control", control)
    assert done.returncode == 0, done.stderr
    assert f"listening on {gateway.urls[0]}, {gateway.urls[1]}" in done.stdout
    told = json.loads(nylon("status", "--json", "--control", control).stdout)
    assert told["listeners"] == gateway.urls
