"""Installs Nylon the two ways in which people do, each into an empty environment, and runs the demo there.

Not a pytest file, since it takes minutes: `make wheel-check` builds the wheel and calls it with the directory.

    python tests/wheel_check.py dist
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """The command's output; what it says is shown, and a failure ends this script."""
    print("$", *command, flush=True)
    done = subprocess.run([str(word) for word in command], cwd=cwd, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        sys.exit(f"wheel-check: exit code {done.returncode}")
    return done.stdout


def check(what: Path) -> None:
    """Install `what` (a wheel or a source tree) into an empty environment, far from the sources, and try it."""
    with tempfile.TemporaryDirectory(prefix="nylon-wheel-") as directory:
        away = Path(directory)
        venv.create(away / "venv", with_pip=True)
        programs = away / "venv" / "bin"
        run(programs / "pip", "install", "--quiet", "--disable-pip-version-check", what, cwd=away)
        # pytest is no dependency of Nylon: nothing of it may be needed to import and run.
        installed = run(programs / "pip", "list", "--format=freeze", "--disable-pip-version-check", cwd=away)
        if "pytest" in installed:
            sys.exit("wheel-check: the installed package depends on pytest")
        place = run(programs / "python", "-c", "import nylon; print(nylon.__file__)", cwd=away).strip()
        if not Path(place).is_relative_to(away):
            sys.exit(f"wheel-check: {place} is not the installed package")
        run(programs / "nylon", "--version", cwd=away)
        run(programs / "nylon", "demo", "--check", cwd=away)


def main() -> None:
    """Check the one wheel in the directory given, then the source tree."""
    wheels = list(Path(sys.argv[1]).resolve().glob("nylon_gateway-*.whl"))
    if len(wheels) != 1:
        sys.exit(f"wheel-check: one wheel is expected in {sys.argv[1]}, found {len(wheels)}")
    check(wheels[0])
    check(ROOT)
    print("wheel-check: the wheel and the source tree install and work")


if __name__ == "__main__":
    main()
