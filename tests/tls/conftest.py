"""An authority for the tests of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority with a folder of its own."""
    folder: Path = tmp_path_factory.mktemp("certificates")
    return Authority(folder)
