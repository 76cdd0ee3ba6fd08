"""What a scheduler that knows everything would need: the yardstick of the simulation."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence


def ideal_seconds(lengths_s: Sequence[float], slots_at: Callable[[float], int], changes_s: Sequence[float]) -> float:
    """Seconds until the last of the tasks has ended, each started the moment that a slot is free, in their order.

    ``slots_at`` gives the slots at a time, and ``changes_s`` the times at which that changes. A task that runs is never
    stopped; with fewer slots than tasks, nothing starts until enough have ended.
    """
    running: list[float] = []
    changes = sorted(changes_s)
    now, started = 0.0, 0
    while started < len(lengths_s):
        while started < len(lengths_s) and len(running) < slots_at(now):
            heapq.heappush(running, now + lengths_s[started])
            started += 1
        next_change = next((at for at in changes if at > now), math.inf)
        next_end = running[0] if running else math.inf
        now = min(next_change, next_end)
        while running and running[0] <= now:
            heapq.heappop(running)
    return max(running, default=now)


def fixed_interval_queries(lengths_s: Sequence[float], mean_delay_s: float) -> float:
    """Queries a task that asking at a fixed interval needs for the same mean delay: the interval is twice the delay."""
    interval_s = 2 * mean_delay_s
    return sum(math.ceil(length_s / interval_s) for length_s in lengths_s) / len(lengths_s)


def fixed_interval_efficiency(
    lengths_s: Sequence[float], interval_s: float, slots: int, requests_per_minute: float
) -> float:
    """The efficiency that asking about each task at a fixed interval can reach at best.

    An end is noticed half an interval late, and the budget bears one submit and the queries of each job, no more. Who
    reaches it knows the slots, never meets a refusal, and spreads its requests without a gap.
    """
    mean_s = sum(lengths_s) / len(lengths_s)
    requests_a_job = 1 + fixed_interval_queries(lengths_s, interval_s / 2)
    seconds_a_job = max((mean_s + interval_s / 2) / slots, requests_a_job * 60 / requests_per_minute)
    return mean_s / slots / seconds_a_job
