"""Where the jobs of a batch stand, in numbers."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from hailuo_async._cli.batch.lines import JobResult
from hailuo_async.outcomes import Stats


@attrs.frozen(kw_only=True)
class Tally:
    """How many jobs of a batch stand where, at one moment. Together they are all its jobs."""

    waiting: int
    running: int
    saving: int
    saved: int
    there: int
    """Of those, saved by an earlier run."""
    failed: int
    unknown: int
    limit: int
    """How many may run at once, as far as the session knows."""
    elapsed_s: float = attrs.field(eq=False)
    """Since the start."""
    is_stopping: bool = False
    """Whether those that wait are not sent any more."""

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
    ) -> Tally:
        """What the session says of the jobs that it has, and the counts of those that have ended.

        ``fetched`` of the videos that the session has were saved, or could not be; the others are being saved.
        """
        left = total - sum(results.values())
        running = min(stats.running, left)
        saving = min(max(stats.succeeded - fetched, 0), left - running)
        there, unknown = results.get(JobResult.THERE, 0), results.get(JobResult.UNKNOWN, 0)
        saved = results.get(JobResult.SAVED, 0) + there
        return cls(
            waiting=left - running - saving,
            running=running,
            saving=saving,
            saved=saved,
            there=there,
            failed=sum(results.values()) - saved - unknown,
            unknown=unknown,
            limit=stats.limit,
            elapsed_s=elapsed_s,
            is_stopping=is_stopping,
        )

    @property
    def total(self) -> int:
        """All jobs."""
        return self.done + self.left

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return self.saved + self.failed + self.unknown

    @property
    def left(self) -> int:
        """Jobs that have not."""
        return self.waiting + self.running + self.saving

    @property
    def message(self) -> str:
        """The counts in one line, without those that are none, and how fast it goes."""
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
        """The mean of this run so far, which says nothing in its first second, and what is left at that speed."""
        ended = self.done - self.there
        if not ended or self.elapsed_s < 1:
            return ""
        rate = ended / self.elapsed_s
        left = f", {span(self.left / rate)} left" if self.left and not self.is_stopping else ""
        return f"{60 * rate:.1f} a minute{left}"


def span(seconds: float) -> str:
    """A time for people, to two digits or so."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
