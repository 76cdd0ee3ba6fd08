"""Reads from the headers of an answer how many requests are left, and until when.

Services and the gateways before them use several families of names. The first family that is there counts:

- the service's own: ``X-RateLimit-Limit``, ``-Remaining``, ``-Reset``;
- the IETF draft ``RateLimit``, version 8 (``RateLimit: "default";r=50;t=30`` beside ``RateLimit-Policy``), and
  version 3 (``RateLimit-Limit``, ``-Remaining``, ``-Reset``);
- the names that many gateways use: ``X-RateLimit-Limit-Requests``, and so on.

A reset may be a moment (Unix seconds or milliseconds, an HTTP or ISO date) or a span (``12s``, ``1m3s``, ``120ms``). A
small number alone is a span too; only the numbers of several answers can show whether it counts seconds or
milliseconds, so ``RateHeaders.reset_number`` passes it on as it is. ``Retry-After`` and ``Date`` are read beside each
family.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeAlias

import attrs

#: A reset further ahead than this is not believed.
_LONGEST_S = 300.0

#: The clock of the resets may be behind that of the dates by so much. A reset further back has passed, and the count
#: beside it says nothing about now.
_MOST_LAG_S = 10.0

#: A ``Retry-After`` further ahead than this is not believed.
_BELIEVED_S = 3600.0

#: Counts from here on are no counts.
_COUNTS_BELOW = 1e9

#: A number is a span below the first, Unix seconds up to the third, milliseconds up to the last (the year 2286).
_SPANS_BELOW, _SECONDS_FROM, _MILLISECONDS_FROM, _UNIX_BELOW = 1e6, 1e8, 1e11, 1e13

#: The names of each family: the limit, what is left, the reset.
_FAMILIES = (
    ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
)
_NAMES = frozenset({*sum(_FAMILIES, ()), "ratelimit", "ratelimit-policy", "retry-after", "date"})

#: Patterns that few services need: ``re`` compiles them at their first use, and keeps them.
_SPAN = r"(?=\d)(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(ms|s))?"
_PARAMETER = r";\s*([a-z]+)\s*=\s*(\d+)"


@attrs.frozen(slots=False)  # made for every answer: frozen fields are set three times as fast in a dict
class RateHeaders:
    """What the headers of one answer say. ``None``: nothing, or nothing that can be believed."""

    limit: int | None = None
    remaining: int | None = None
    reset_at: float | None = None
    """Unix seconds, in the server's clock."""
    date: float | None = None
    """Unix seconds of the answer, in the server's clock."""
    retry_after_s: float | None = None
    ignored: tuple[str, ...] = ()
    """Names of headers whose values cannot be believed, for one warning."""
    reset_in_s: float | None = None
    """Seconds from the answer to the reset, if the service gives a span."""
    reset_number: float | None = None
    """A span in seconds or milliseconds: the number does not say which."""
    window_s: float | None = None
    """The length of the window that ``limit`` is for."""


#: Of an answer without such headers. It is frozen, so one instance serves all answers.
_SILENT = RateHeaders()

#: A moment, a span in seconds, or a span without its unit: exactly one of the three.
_Reset: TypeAlias = tuple[float | None, float | None, float | None]

#: What each header says, by its name; ``None`` if it cannot be believed, or is not there.
_Read: TypeAlias = list[tuple[str, object]]


class _Said(NamedTuple):
    """What one family says. A tuple: it is made for every answer, and frozen attrs cost five times as much."""

    limit: int | None = None
    remaining: int | None = None
    reset: _Reset = (None, None, None)
    window_s: float | None = None


_NOTHING = _Said()


def read_rate_headers(headers: Mapping[str, str]) -> RateHeaders:
    """Reads ``headers``, their names in any case. Never raises; ``ignored`` names those with impossible values."""
    found = {low: value.strip() for name, value in headers.items() if (low := name.lower()) in _NAMES}
    if not found:
        return _SILENT
    date = _unix(found["date"]) if "date" in found else None
    retry_after_s = _retry_after(found.get("retry-after"), date)
    if "ratelimit" in found and not any(name in found for name in _FAMILIES[0]):
        said = _draft_8(found["ratelimit"], found.get("ratelimit-policy", ""))
        read: _Read = [("ratelimit", None if said == _NOTHING else said)]
    else:
        said, read = _family(found, date)
    read += ("retry-after", retry_after_s), ("date", date)
    ignored = tuple([name for name, value in read if value is None and name in found])
    limit, remaining, (at, in_s, number), window_s = said
    return RateHeaders(limit, remaining, at, date, retry_after_s, ignored, in_s, number, window_s)


def _family(found: Mapping[str, str], date: float | None) -> tuple[_Said, _Read]:
    """What the first family that is there says, and what each of its headers says."""
    for limit_name, remaining_name, reset_name in _FAMILIES:
        if limit_name in found or remaining_name in found or reset_name in found:
            break
    else:
        return _NOTHING, []
    limit_text, _, policy = found.get(limit_name, "").partition(",")
    limit = _count(limit_text, least=1)
    remaining = _count(found.get(remaining_name, ""), least=0)
    reset = _reset(found.get(reset_name, ""), date)
    at, in_s, number = reset or (None, None, None)
    is_over = at is not None and date is not None and at < date - _MOST_LAG_S
    if reset_name == "ratelimit-reset":  # the draft says that it counts seconds
        in_s, number = in_s if number is None else number, None
    window_s = _span(dict(re.findall(_PARAMETER, policy)).get("w")) if policy else None
    read: _Read = [(limit_name, limit), (remaining_name, remaining), (reset_name, None if is_over else reset)]
    if is_over:  # the count is of a window that has ended: none left then says nothing about now
        return _Said(limit, window_s=window_s), read
    return _Said(limit, remaining, (at, in_s, number), window_s), read


def _draft_8(text: str, policy: str) -> _Said:
    """What a draft 8 header says. If it names several quotas, the one with the fewest requests left counts."""
    quotas = [(item.split(";")[0].strip(), dict(re.findall(_PARAMETER, item))) for item in text.split(",")]
    known = [(name, said) for name, said in quotas if _count(said.get("r", ""), least=0) is not None]
    if not known:
        return _NOTHING
    name, said = min(known, key=lambda quota: int(quota[1]["r"]))
    rules = {item.split(";")[0].strip(): dict(re.findall(_PARAMETER, item)) for item in policy.split(",")}
    rule = rules.get(name, {})
    reset = (None, _span(said.get("t")), None)
    return _Said(_count(rule.get("q", ""), least=1), int(said["r"]), reset, _span(rule.get("w")))


def _span(text: str | None) -> float | None:
    value = _number(text or "")
    return value if value is not None and 0 <= value <= _LONGEST_S else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _count(text: str, least: int) -> int | None:
    value = _number(text)
    return int(value) if value is not None and least <= value < _COUNTS_BELOW else None


@functools.lru_cache(maxsize=16)
def _unix(text: str) -> float | None:
    """A date as Unix seconds. Cached: many answers share one, and parsing it is the dearest part of reading."""
    try:
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _reset(text: str, date: float | None) -> _Reset | None:
    value = _number(text)
    if value is not None and 0 <= value < _SPANS_BELOW:
        return None, None, value
    span = re.fullmatch(_SPAN, text) if value is None else None
    if span is not None:
        minutes, rest, unit = span.groups()
        in_s = 60 * float(minutes or 0) + float(rest or 0) / (1000 if unit == "ms" else 1)
        return (None, in_s, None) if in_s <= _LONGEST_S else None
    at = _unix(text) if value is None else value / 1000 if value >= _MILLISECONDS_FROM else value
    if at is None or not _SECONDS_FROM <= at < _UNIX_BELOW / 1000:
        return None
    return (at, None, None) if date is None or at - date <= _LONGEST_S else None


def _retry_after(text: str | None, date: float | None) -> float | None:
    if text is None:
        return None
    value = _number(text)
    if value is None and date is not None and (until := _unix(text)) is not None:
        value = until - date
    return value if value is not None and 0 <= value <= _BELIEVED_S else None
