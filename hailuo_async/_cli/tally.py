"""Where the jobs of a batch stand, in numbers."""

from __future__ import annotations

import attrs

from hailuo_async.outcomes import Stats


@attrs.frozen(kw_only=True)
class Tally:
    """How many jobs of a batch stand where, at one moment. Together they are all its jobs."""

    waiting: int
    running: int
    saving: int
    saved: int
    failed: int
    limit: int
    """How many may run at once, as far as the session knows."""
    elapsed_s: float = attrs.field(eq=False)
    """Since the start."""

    @classmethod
    def of(cls, stats: Stats, *, total: int, saving: int, saved: int, failed: int, elapsed_s: float) -> Tally:
        """What the session says of the jobs that it has, and the counts of those that it is done with."""
        ended = saving + saved + failed
        running = min(stats.running, total - ended)
        return cls(
            waiting=total - ended - running,
            running=running,
            saving=saving,
            saved=saved,
            failed=failed,
            limit=stats.limit,
            elapsed_s=elapsed_s,
        )

    @property
    def words(self) -> str:
        """The counts in one line."""
        saving = f", {self.saving} saving" if self.saving else ""
        failed = f", {self.failed} failed" if self.failed else ""
        running = f"{self.running} running (limit {self.limit})"
        return f"{self.waiting} waiting, {running}{saving}, {self.saved} saved{failed}"
