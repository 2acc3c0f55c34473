"""The helper for plugins in C, run by a gateway that is C too, plain and under the compiler's sanitizers; and as what
compilers find it: strict, for C and for C++.

`make native-check` runs the same program under valgrind.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.client import fetch
from support.configs import gateway_config, route
from support.native import (
    INCLUDE,
    ROOT,
    SDK,
    STRICT,
    announced,
    build_directory,
    c_library,
    compiler,
    run_compiler,
)
from support.origin import Origin
from support.processes import GatewayProcess

HERE = Path(__file__).resolve().parent
SANITIZERS = {
    "plain": (),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-fsanitize=thread",),
}


def includes() -> list[str]:
    return [f"-I{INCLUDE}", f"-I{SDK}"]


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_all_cases_hold(sanitizer: str) -> None:
    program = build_directory() / f"cases-{sanitizer}"
    sources = [*sorted(HERE.glob("*.c")), *sorted(SDK.glob("*.c"))]
    run_compiler(
        [
            compiler(),
            *STRICT,
            *("-O1", "-g", "-pthread"),
            *SANITIZERS[sanitizer],
            *includes(),
            *sources,
            "-o",
            program,
        ]
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    cases = re.findall(r'^    \{"(\w+)",', (HERE / "cases.c").read_text(), re.MULTILINE)
    assert done.stdout.split() == cases


@pytest.mark.parametrize(
    ("program", "standard"),
    [("cc", "c11"), ("cc", "c17"), ("c++", "c++11"), ("c++", "c++17"), ("c++", "c++20")],
)
def test_headers_stand_alone_and_are_strict(program: str, standard: str, tmp_path: Path) -> None:
    for header in ("nylon.h", "nylon_plugin.h"):
        source = tmp_path / ("use.cpp" if program == "c++" else "use.c")
        # Sockets declare a `shutdown` of their own, and a plugin may have an `initialize`.
        own = "" if header == "nylon.h" else "int initialize(void);\n"
        source.write_text(f'#include <sys/socket.h>\n#include "{header}"\n#include "{header}"\n{own}')
        strict = [flag for flag in STRICT if not flag.startswith("-std=")]
        run_compiler(
            [
                *(compiler(program), f"-std={standard}", *strict, "-Wshadow", "-Wconversion", *includes()),
                *("-c", source, "-o", tmp_path / "use.o"),
            ]
        )


CPP = """
#include "nylon_plugin.h"
#include <string>

namespace {

void greet(nylon_ctx *ctx) {
    std::string text = std::string("hello from ") + nylon_path(ctx);
    nylon_set_text(ctx, text.c_str());
    nylon_end(ctx);
}

const nylon_entry entries[] = {{"greet", greet, nullptr, nullptr, nullptr, false, false, 0, nullptr, nullptr}};

}

NYLON_PLUGIN(nullptr, nullptr, NYLON_TABLE(entries));
"""


def test_a_plugin_in_cpp_uses_the_helper(tmp_path: Path) -> None:
    (tmp_path / "plugin.cpp").write_text(CPP)
    objects = []
    for source in SDK.glob("*.c"):
        objects.append(tmp_path / f"{source.stem}.o")
        run_compiler([compiler(), *STRICT, "-fPIC", *includes(), "-c", source, "-o", objects[-1]])
    library = tmp_path / "plugin.so"
    run_compiler(
        [
            *(compiler("c++"), "-std=c++11", *STRICT[1:], "-fPIC", "-shared", "-fvisibility=hidden"),
            *(*includes(), tmp_path / "plugin.cpp", *objects, "-o", library),
        ]
    )
    assert announced(library) == {"greet"}


def test_the_readmes_plugin_is_one(tmp_path: Path) -> None:
    [whole] = [
        block
        for block in re.findall(
            r"^```c\n(.*?)^```$", (SDK / "README.md").read_text(), re.MULTILINE | re.DOTALL
        )
        if "NYLON_PLUGIN" in block
    ]
    (tmp_path / "auth.c").write_text(whole)
    assert announced(c_library(tmp_path / "auth.c", sdk=True)) == {"auth"}


@pytest.mark.parametrize("callback_memory", ["plugin", "host"])
def test_either_owner_of_callback_memory_is_right(origin: Origin, callback_memory: str) -> None:
    library = c_library(*sorted((ROOT / "tests" / "hosts" / "native").glob("*.c")), sdk=True)
    plugin = {"name": "plugin", "type": "ffi", "file": str(library), "callback_memory": callback_memory}
    middleware = [{"plugin": "plugin", "entry": "write-headers"}]
    with GatewayProcess(
        gateway_config(origin.address, [route("/x", middleware=middleware)], plugins=[plugin])
    ) as gateway:
        for _ in range(20):
            assert fetch(gateway.address, "GET", "/x", {"x-popped": "p"}).status == 200
    assert {received.header("x-popped-was") for received in origin.received("/x")} == {"p"}


def test_a_library_exports_the_abi_and_nothing_else() -> None:
    library = c_library(*sorted((ROOT / "tests" / "hosts" / "native").glob("*.c")), sdk=True)
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    assert {line.split()[2] for line in symbols.stdout.splitlines()} == {
        *("initialize", "register_session_stream", "event_stream", "close_session_stream", "plugin_free"),
        *("shutdown", "nylon_abi_version", "nylon_entries"),
    }
