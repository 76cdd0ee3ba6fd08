"""Times in the service's answers: Unix numbers in any unit, or ISO text."""

from __future__ import annotations

from datetime import UTC, datetime

#: Unix seconds have fewer than 11 digits before the point for three thousand years. So a larger number is in
#: milliseconds, as the service documents it (vendor), or in micro- or nanoseconds.
_MOST_SECONDS = 1e11
_LONGEST_TEXT = 40


def from_unix(seconds: float | None) -> datetime | None:
    """Unix seconds as a time; ``None`` also for one outside the calendar."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def read_moment(value: object) -> datetime | None:
    """``value`` as a time: Unix seconds or a finer unit, as a number or its text, or ISO text, UTC if it names no zone.

    ``None`` for anything else, and for a time that no calendar has.
    """
    if isinstance(value, str):
        value = value.strip()[:_LONGEST_TEXT]
        if not value.isdecimal():
            return _read_iso(value)
        value = int(value)
    if not (type(value) is int or type(value) is float) or not 0 < value < _MOST_SECONDS * 1e9:
        return None
    while value >= _MOST_SECONDS:
        value /= 1000
    return datetime.fromtimestamp(value, UTC)


def _read_iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
