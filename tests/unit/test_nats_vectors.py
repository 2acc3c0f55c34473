"""The frames of the NATS protocol are plain MessagePack: another library reads in them what the vectors say, and
the page of the protocol shows them as they are."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from support.protocol_page import PAGE, rewritten, shown, vectors

VECTORS = vectors()


def as_json(value: Any) -> Any:
    """Write binaries the way that the vectors do."""
    if isinstance(value, bytes):
        return {"bin": value.hex()}
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_a_frame_reads_as_the_vector_says(vector: dict[str, Any]) -> None:
    frame = msgpack.unpackb(bytes.fromhex(vector["hex"]))
    assert as_json(frame) == vector["frame"]
    assert list(frame)[:2] == ["t", "v"]


def test_the_page_of_the_protocol_shows_every_kind_of_frame_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page) == page, "run: python tests/support/protocol_page.py"
    kinds = {vector["name"]: vector["frame"]["t"] for vector in VECTORS}
    missing = set(kinds.values()) - {kinds[name] for name in shown(page)}
    assert not missing, f"{PAGE.name} has no example (`<!-- vector: NAME -->`) of {sorted(missing)}"
