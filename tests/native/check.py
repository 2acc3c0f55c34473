"""`make native-check`: the C helper and the native host under valgrind, which has to be installed.

The helper's cases run under memcheck and helgrind, the gateway's own tests of native plugins (real libraries, real
requests) under memcheck. helgrind knows POSIX threads, so it can judge the C; Rust's locks are futexes, which it takes
for races. The compiler's sanitizers run with the usual tests (`test_c_helper.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.native import INCLUDE, SDK, STRICT, build_directory, compiler, run_compiler  # noqa: E402

HERE = Path(__file__).resolve().parent
VALGRIND = ["-q", "--error-exitcode=9", f"--suppressions={HERE / 'valgrind.supp'}"]
MEMCHECK = [*VALGRIND, "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]
HELGRIND = [*VALGRIND, "--tool=helgrind"]


def cases() -> Path:
    """The helper's cases as a program."""
    program = build_directory() / "cases"
    sources = [*sorted(HERE.glob("*.c")), *sorted(SDK.glob("*.c"))]
    includes = [f"-I{INCLUDE}", f"-I{SDK}"]
    run_compiler([compiler(), *STRICT, "-O1", "-g", "-pthread", *includes, *sources, "-o", program])
    return program


def host_tests() -> Path:
    """The gateway's tests of native plugins as a program."""
    command = ["cargo", "test", "--locked", "-p", "nylon-gateway", "--test", "native", "--no-run"]
    built = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    (program,) = [message["executable"] for message in messages if message.get("executable")]
    return Path(program)


def check(what: str, options: list[str], program: Path, **environment: str) -> None:
    """Run a program under valgrind; ends everything with what was found."""
    print(f"── {what}", flush=True)
    command = ["valgrind", *options, str(program)]
    done = subprocess.run(command, cwd=ROOT / "rust" / "gateway", env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{what}: valgrind found something, or a case failed ({done.returncode})")


def main() -> None:
    compiler("valgrind")
    program = cases()
    check("the C helper under memcheck", [*MEMCHECK, "--show-leak-kinds=all"], program)
    check("the C helper under helgrind", HELGRIND, program, ROUNDS="300")
    check("the native host under memcheck", MEMCHECK, host_tests())
    print("clean")


main()
