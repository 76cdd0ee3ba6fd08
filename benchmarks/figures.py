"""What every measurement gives: one line of the table."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class Figure:
    """One measured line: who did what, and what it came to. The names of values carry their units."""

    subject: str
    """Who was measured: ``"hailuo-async"``, ``"bare aiohttp"``, a peer with its version."""
    case: str
    """What it had to do: ``"300 jobs at 0.5 s"``."""
    values: Mapping[str, float]
    """``wall_s``, ``cpu_s``, ``requests_per_job``, ``stall_ms``, ``peak_rss_mb``, and what else the case is about."""
    note: str = ""
