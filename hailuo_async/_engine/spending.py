"""How many jobs may still be paid for. Each job that is queued uses one; one that is never accepted gives it back."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from hailuo_async.errors import SpendingLimitError


@attrs.define(eq=False)
class Allowance:
    """At most ``max_jobs`` jobs, or any number where that is ``None``."""

    max_jobs: int | None
    used: int = attrs.field(default=0, init=False)


def spend(allowances: Iterable[Allowance]) -> None:
    """One job more for each of them, or for none. Raises ``SpendingLimitError`` if one has nothing left."""
    for allowance in allowances:
        if allowance.max_jobs is not None and allowance.used >= allowance.max_jobs:
            raise SpendingLimitError(max_jobs=allowance.max_jobs)
    for allowance in allowances:
        allowance.used += 1


def give_back(allowances: Iterable[Allowance]) -> None:
    """One job less for each of them: it was never sent, or certainly refused."""
    for allowance in allowances:
        allowance.used -= 1
