"""Opens the journal at a place, with the engine that the place calls for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from hailuo_async._io.journal import sqlite
from hailuo_async._io.journal.database import Database
from hailuo_async.errors import JournalError
from hailuo_async.settings import Dsn, JournalPlace


def open_for_writing(
    place: JournalPlace, base_url: str | None, now: Callable[[], float], busy_timeout_s: float
) -> Database:
    """The journal at ``place``, made if there is none. Raises ``JournalError``.

    In a file, ``now`` is the clock of its leases, and a write of another program may delay ours as long as
    ``busy_timeout_s``. A server has its own of both.
    """
    if isinstance(place, Path):
        return sqlite.open_for_writing(place, base_url, now, busy_timeout_s)
    opened: Database = _postgres(place).open_for_writing(place, base_url)
    return opened


def open_for_reading(place: JournalPlace) -> Database:
    """A connection that can only read. Works beside sessions that write. Raises ``JournalError``."""
    if isinstance(place, Path):
        return sqlite.open_for_reading(place)
    opened: Database = _postgres(place).open_for_reading(place)
    return opened


def is_used(place: JournalPlace) -> bool:
    """Whether a session has kept a journal at ``place`` before. Raises ``JournalError`` if that cannot be known."""
    if isinstance(place, Path):
        return place.exists() and place.stat().st_size > 0
    used: bool = _postgres(place).is_used(place)
    return used


def _postgres(dsn: Dsn) -> ModuleType:
    """Imported for the first journal that needs it."""
    try:
        from hailuo_async._io.journal import postgres_opening
    except ImportError as cause:
        reason = f"it needs psycopg: install hailuo-async with its extra 'postgres' ({cause})"
        raise JournalError(path=str(dsn), reason=reason) from cause
    return postgres_opening
