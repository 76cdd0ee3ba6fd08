"""How the items of one stream become jobs of the session."""

from __future__ import annotations

from collections.abc import Awaitable

import attrs

from hailuo_async._engine.admission import Admission, FindFault, Terms
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._images.source import is_web_url
from hailuo_async.jobs import check_job, is_job


@attrs.frozen(eq=False)
class Intake:
    """Has each item of a stream taken, on the stream's terms."""

    _admission: Admission
    _terms: Terms
    _always_waits: bool

    def take(self, item: object, find_fault: FindFault | None) -> Awaitable[TrackedJob]:
        """Takes an item. Raises ``JobError`` for what is no job, and what ``Admission.take`` raises."""
        return self._admission.take(check_job(item), self._terms, find_fault)

    def waits(self, item: object) -> bool:
        """Whether taking an item waits for anything: only a job of URLs may not."""
        return self._always_waits or not is_job(item) or not all(map(is_web_url, item.frames.values()))
