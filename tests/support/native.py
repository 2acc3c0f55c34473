"""Shared libraries that tests compile, with the compilers and the strictness that users are told to use.

Each library is built once per run, into a directory that goes when the run ends.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include"
SDK = ROOT / "sdk" / "c"
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
_numbers = itertools.count(1)


@functools.cache
def build_directory() -> Path:
    """Where this run's libraries are."""
    directory = tempfile.mkdtemp(prefix="nylon-native-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


def compiler(name: str = "cc") -> str:
    """The path of a compiler, or another tool; fails with what to install where there is none."""
    path = shutil.which(name)
    if path is None:
        raise AssertionError(
            f"the tests of native plugins need {name}, which is not on the PATH: install it"
            " (on Debian: apt-get install gcc g++ libc6-dev valgrind)"
        )
    return path


def run_compiler(command: Sequence[str | Path], *, cwd: Path | None = None) -> None:
    """Run a compiler; fails with what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise AssertionError(
            f"{' '.join(str(part) for part in command)}\nended with {done.returncode}:\n"
            + done.stdout.decode(errors="replace")
        )


@functools.cache
def c_library(*sources: Path, sdk: bool = False, flags: tuple[str, ...] = ()) -> Path:
    """A shared library made of these C sources; `sdk` adds the helper of sdk/c to them."""
    path = build_directory() / f"{sources[0].stem}-{next(_numbers)}.so"
    includes = [f"-I{INCLUDE}", *([f"-I{SDK}"] if sdk else [])]
    all_sources = [*sources, *(sorted(SDK.glob("*.c")) if sdk else [])]
    run_compiler(
        [
            compiler(),
            *STRICT,
            *("-O1", "-g", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden"),
            *includes,
            *flags,
            *all_sources,
            "-o",
            path,
        ]
    )
    return path


@functools.cache
def rust_library(package: str) -> Path:
    """The shared library of a package of the workspace. Cargo builds it where it builds all else, once."""
    cargo = compiler("cargo")
    command = [
        cargo,
        "build",
        "--locked",
        "--package",
        package,
        "--message-format",
        "json-render-diagnostics",
    ]
    # Not the one of a test that has one of its own.
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr}"
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    made = [message for message in messages if message.get("target", {}).get("kind") == ["cdylib"]]
    (path,) = made[-1]["filenames"]
    return Path(path)


ANNOUNCE = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.nylon_entries.restype = ctypes.c_char_p
library.initialize(b"{}", 2)
print(library.nylon_entries().decode())
"""


def announced(library: Path) -> set[str]:
    """The entries that a library announces, asked in a process of its own: what was loaded once stays."""
    done = subprocess.run(
        [sys.executable, "-c", ANNOUNCE, library], capture_output=True, text=True, check=True, timeout=60
    )
    return {entry["name"] for entry in json.loads(done.stdout)}
