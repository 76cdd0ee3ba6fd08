"""Opens the journal at its location, with the engine that this calls for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from hailuo_async._io.journal import sqlite
from hailuo_async._io.journal.database import Database
from hailuo_async.errors import JournalError
from hailuo_async.settings import Dsn, JournalLocation


def open_for_writing(
    location: JournalLocation, base_url: str | None, now: Callable[[], float], busy_timeout_s: float
) -> Database:
    """The journal at ``location``, made if there is none. Raises ``JournalError``.

    In a file, ``now`` is the clock of its leases, and a write of another program may delay ours as long as
    ``busy_timeout_s``. A server has its own of both.
    """
    if isinstance(location, Path):
        return sqlite.open_for_writing(location, base_url, now, busy_timeout_s)
    opened: Database = _postgres(location).open_for_writing(location, base_url)
    return opened


def open_for_reading(location: JournalLocation) -> Database:
    """A connection that can only read. Works beside sessions that write. Raises ``JournalError``."""
    if isinstance(location, Path):
        return sqlite.open_for_reading(location)
    opened: Database = _postgres(location).open_for_reading(location)
    return opened


def is_used(location: JournalLocation) -> bool:
    """Whether a session has kept a journal at ``location`` before. Raises ``JournalError`` if that cannot be known."""
    if isinstance(location, Path):
        return sqlite.is_used(location)
    used: bool = _postgres(location).is_used(location)
    return used


def _postgres(dsn: Dsn) -> ModuleType:
    """Imported for the first journal that needs it."""
    try:
        from hailuo_async._io.journal import postgres_opening
    except ImportError as cause:
        reason = f"it needs psycopg: install hailuo-async with its extra 'postgres' ({cause})"
        raise JournalError(path=str(dsn), reason=reason) from cause
    return postgres_opening
