"""One file, by two holders, on a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hailuo_async._io.journal.table import JobTable, open_table

from ...support.ledgers import LEASE_S, Clock, Opener


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batch.db"


@pytest.fixture
def opened(path: Path, clock: Clock) -> Iterator[Opener]:
    ledgers: list[JobTable] = []

    def open_as(holder: str) -> JobTable:
        ledgers.append(open_table(path, "https://api.modellix.ai", clock, holder, LEASE_S, 0.2))
        return ledgers[-1]

    yield open_as
    for table in ledgers:
        table.database.close()


@pytest.fixture
def ours(opened: Opener) -> JobTable:
    return opened("ours")


@pytest.fixture
def theirs(opened: Opener) -> JobTable:
    return opened("theirs")
