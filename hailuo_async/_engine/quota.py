"""How many jobs may still be paid for. Each job that is queued uses one; one that is never accepted gives it back."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from hailuo_async.errors import SpendingLimitError


@attrs.define(eq=False)
class Quota:
    """At most ``max_jobs`` jobs, or any number where that is ``None``."""

    max_jobs: int | None
    used: int = attrs.field(default=0, init=False)


def reserve(quotas: Iterable[Quota]) -> None:
    """One job more for each of them, or for none. Raises ``SpendingLimitError`` if one has nothing left."""
    for quota in quotas:
        if quota.max_jobs is not None and quota.used >= quota.max_jobs:
            raise SpendingLimitError(max_jobs=quota.max_jobs)
    for quota in quotas:
        quota.used += 1


def give_back(quotas: Iterable[Quota]) -> None:
    """One job less for each of them: it was never sent, or certainly refused."""
    for quota in quotas:
        quota.used -= 1
