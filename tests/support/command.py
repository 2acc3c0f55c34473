"""The command as a user runs it, and the environment that it runs in."""

from __future__ import annotations

import os
import sys

NYLON = [sys.executable, "-m", "nylon"]


def environment(**extra: str) -> dict[str, str]:
    """The tests' environment without what would change the command's mind."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NYLON_", "NATS_"))}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **extra}
