"""The frames of the NATS protocol are plain MessagePack: another library reads in them what the vectors say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "nats-frames.json").read_text(encoding="utf-8")
)


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
