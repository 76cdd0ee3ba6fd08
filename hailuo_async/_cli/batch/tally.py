"""Where the jobs of a batch stand, in numbers."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from hailuo_async._cli.batch.pace import Pace, TimeLeft
from hailuo_async._cli.batch.results import JobResult
from hailuo_async.outcomes import Stats


@attrs.frozen(kw_only=True)
class Tally:
    """How the jobs of a batch stand at one moment. The counts add up to all of its jobs."""

    waiting: int
    running: int
    saving: int
    saved: int
    there: int
    """Those of them that an earlier run has saved."""
    failed: int
    unknown: int
    limit: int
    """How many may run at once, as far as the session knows."""
    elapsed_s: float = attrs.field(eq=False)
    """Seconds since the start."""
    is_stopping: bool = False
    """Whether waiting jobs are not sent any more."""
    a_minute: float | None = attrs.field(default=None, eq=False)
    """How many jobs end in a minute, at the present speed."""
    left_s: TimeLeft | None = attrs.field(default=None, eq=False)

    @classmethod
    def of(
        cls,
        stats: Stats,
        results: Mapping[JobResult, int],
        *,
        total: int,
        fetched: int,
        elapsed_s: float,
        is_stopping: bool = False,
        pace: Pace | None = None,
        now: float = 0.0,
    ) -> Tally:
        """The counts, from what the session says of its jobs, and from the results of those that have ended.

        ``fetched``: how many of the session's videos were saved, or could not be; the others are being saved.
        """
        left = total - sum(results.values())
        running = min(stats.running, left)
        saving = min(max(stats.succeeded - fetched, 0), left - running)
        there, unknown = results.get(JobResult.THERE, 0), results.get(JobResult.UNKNOWN, 0)
        saved = results.get(JobResult.SAVED, 0) + there
        waiting = left - running - saving
        return cls(
            waiting=waiting,
            running=running,
            saving=saving,
            saved=saved,
            there=there,
            failed=sum(results.values()) - saved - unknown,
            unknown=unknown,
            limit=stats.limit,
            elapsed_s=elapsed_s,
            is_stopping=is_stopping,
            a_minute=None if pace is None else pace.a_minute,
            left_s=None if pace is None else pace.left(now, 0 if is_stopping else waiting, saving),
        )

    @property
    def total(self) -> int:
        return self.done + self.left

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return self.saved + self.failed + self.unknown

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.waiting + self.running + self.saving

    @property
    def message(self) -> str:
        """The counts that are not 0, and the speed, in one line."""
        there = f" ({self.there} by an earlier run)" if self.there else ""
        counts = [
            f"{self.waiting} {'not sent' if self.is_stopping else 'waiting'}",
            f"{self.running} running (limit {self.limit})",
            f"{self.saving} saving" if self.saving else "",
            f"{self.saved} saved{there}",
            f"{self.failed} failed" if self.failed else "",
            f"{self.unknown} unknown" if self.unknown else "",
            self._speed,
        ]
        return ", ".join(filter(None, counts))

    @property
    def _speed(self) -> str:
        """The speed, and the time that is left at it."""
        if self.left_s is None or not self.left:
            return ""
        rate = "" if self.a_minute is None else f"{self.a_minute:.1f} a minute, "
        low, high = span(self.left_s.low_s), span(self.left_s.high_s)
        number, unit = low.split()
        between = f"{number if high.endswith(f' {unit}') else low} to {high}"
        return f"{rate}{low if low == high else between} left"


def span(seconds: float) -> str:
    """A time for people, to two digits or so."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
