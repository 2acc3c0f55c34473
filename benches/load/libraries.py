"""The shared libraries of the rows with a native plugin, built as their users would build them."""

import os
import shutil
import subprocess
from pathlib import Path

from process import Failed

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = HERE / "libraries"
GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin") or ""
LANGUAGES = ("c", "rust", "go")


def lacking(languages: set[str]) -> list[str]:
    """What is not installed, each with how to get it."""
    tools = {
        "c": (shutil.which("cc"), "a C compiler not found. On Debian: apt-get install gcc libc6-dev"),
        "rust": (shutil.which("cargo"), "cargo not found: https://rustup.rs"),
        "go": (GO, "go not found, neither on the PATH nor in /usr/local/go: https://go.dev/dl"),
    }
    return [text for language, (tool, text) in tools.items() if language in languages and not tool]


def build(language: str, where: Path) -> Path:
    """Builds the library of a language into the directory `where`."""
    library = where / f"bench-{language}.so"
    if language == "c":
        helper = ROOT / "sdk" / "c"
        flags = ["-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread"]
        includes = [f"-I{ROOT / 'include'}", f"-I{helper}"]
        run("cc", *flags, *includes, SOURCES / "check.c", *sorted(helper.glob("*.c")), "-o", library)
    elif language == "rust":
        run("cargo", "build", "--release", "--locked", "-p", "nylon-bench-plugin", cwd=ROOT)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        shutil.copy(target / "release" / "libnylon_bench.so", library)
    else:
        run(GO, "build", "-buildmode=c-shared", "-o", library, ".", cwd=SOURCES / "go")
    return library


def run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"cannot build ({' '.join(str(word) for word in command)}):\n{done.stderr[-4000:]}")
