from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hailuo_async.emulator import Emulator

from ..support.programs import put_pictures
from ..support.running_emulator import emulator_in_thread


@pytest.fixture
def service() -> Iterator[Emulator]:
    """The emulator, in a thread of its own."""
    with emulator_in_thread() as emulator:
        yield emulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a program's reader stands."""
    return put_pictures(tmp_path)
