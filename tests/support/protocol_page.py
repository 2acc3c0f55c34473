"""The examples in docs/nats-protocol.md, made from the vectors, so that the page cannot drift from the code.

The page holds pairs of marks, `<!-- vector: NAME -->` and `<!-- /vector -->`; what stands between them is written by
`python tests/support/protocol_page.py`, and checked by tests/unit/test_nats_vectors.py.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "nats-protocol.md"
VECTORS = ROOT / "tests" / "vectors" / "nats-frames.json"
MARKED = re.compile(r"(<!-- vector: (.+?) -->\n)(.*?)(<!-- /vector -->)", re.DOTALL)


def vectors() -> list[dict[str, Any]]:
    """All vectors: `name`, `frame` (JSON, a binary as `{"bin": hex}`), `hex`."""
    loaded: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))
    return loaded


def example(vector: dict[str, Any]) -> str:
    """A vector as the page shows it: one line per key, then the bytes."""
    lines = []
    for key, value in vector["frame"].items():
        text = f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},"
        lines += textwrap.wrap(
            text, 112, initial_indent="  ", subsequent_indent="    ", break_long_words=False
        )
    body = "\n".join(lines).rstrip(",")
    dump = "\n".join(textwrap.wrap(vector["hex"], 112))
    return f"\n```json\n{{\n{body}\n}}\n```\n\n```text\n{dump}\n```\n\n"


def shown(page: str) -> list[str]:
    """The names of the vectors that a page shows."""
    return [match[2] for match in MARKED.finditer(page)]


def rewritten(page: str) -> str:
    """The page with every example as it has to be. Raises `KeyError` for a name that is no vector."""
    by_name = {vector["name"]: vector for vector in vectors()}
    return MARKED.sub(lambda match: match[1] + example(by_name[match[2]]) + match[4], page)


def main() -> int:
    """Rewrite the page's examples."""
    page = PAGE.read_text(encoding="utf-8")
    try:
        PAGE.write_text(rewritten(page), encoding="utf-8")
    except KeyError as missing:
        print(f"{PAGE.name} shows {missing}, which is not in {VECTORS.name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
