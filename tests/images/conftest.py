from __future__ import annotations

from pathlib import Path

import pytest

from hailuo_async._images.content import RAW_PIECE

from ..support.pictures import padded


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of three pieces."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(padded(2 * RAW_PIECE + 1000))
    return path
