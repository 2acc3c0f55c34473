"""Crates of others that tests read, at the versions that `tests/tools/corpus` names; cargo fetches and keeps them."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

MANIFEST = Path(__file__).resolve().parents[1] / "tools" / "corpus" / "Cargo.toml"


@functools.cache
def crate(name: str) -> Path:
    """The directory of a crate's sources."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", MANIFEST]
    run = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert run.returncode == 0, f"cargo cannot fetch what tests read:\n{run.stderr}"
    (found,) = (package for package in json.loads(run.stdout)["packages"] if package["name"] == name)
    return Path(found["manifest_path"]).parent
