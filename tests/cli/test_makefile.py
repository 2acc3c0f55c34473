"""`make` alone tells what there is."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_alone_lists_the_targets_and_builds_nothing():
    done = subprocess.run(
        # The tests may run under make themselves, and then a make in them says where it enters and leaves.
        ["make", "--no-print-directory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    listed = re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE)
    assert {"demo", "test", "lint", "format", "bench", "wheel", "clean"} <= set(listed)
    assert len(listed) == len(done.stdout.splitlines())


def test_every_target_that_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for target in set(re.findall(r"`make ([a-z-]+)", text)):
        # -n only prints what would be done, and fails where there is no such target
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, timeout=30, check=True)
