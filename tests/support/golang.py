"""Go code that tests build: libraries for the gateway, and programs.

Each is built once per run, into the directory of shared libraries (see `native.py`), which goes when the run ends.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from support.native import build_directory, run_compiler

ENTRIES = Path(__file__).resolve().parents[1] / "hosts" / "native" / "go"
"""The module with the suite's entries."""

TOOLS = Path(__file__).resolve().parents[1] / "tools"
"""The module that names the programs of others which tests run, and their versions."""


@functools.cache
def go() -> str:
    """The path of the go command; fails with what to install where there is none."""
    path = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if path is None:
        raise AssertionError(
            "the tests of the Go SDK need Go, which is not on the PATH and not in /usr/local/go: https://go.dev/dl"
        )
    return path


@functools.cache
def go_library(module: Path, package: str) -> Path:
    """A main package of a module as a shared library."""
    return _built(module, package, ".so", "-buildmode=c-shared")


@functools.cache
def go_program(module: Path, package: str) -> Path:
    """A main package of a module as a program."""
    return _built(module, package, "")


def tool(package: str) -> Path:
    """A program of others, at the version that `TOOLS` names; `package` is its import path."""
    return go_program(TOOLS, package)


def _built(module: Path, package: str, suffix: str, *flags: str) -> Path:
    path = build_directory() / f"{module.name}-{package.strip('./').replace('/', '-')}-{os.getpid()}{suffix}"
    run_compiler([go(), "build", *flags, "-o", path, package], cwd=module)
    return path
