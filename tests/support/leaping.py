"""A loop whose clock a test puts forward: a deadline comes when the test says so, on a machine of any speed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

#: Puts the clock of the loop forward by so many seconds.
Leap: TypeAlias = Callable[[float], None]


def leaping() -> Leap:
    """Puts such a clock into the running loop."""
    loop, ahead_s = asyncio.get_running_loop(), 0.0
    time = loop.time

    def leap(seconds: float) -> None:
        nonlocal ahead_s
        ahead_s += seconds

    loop.time = lambda: time() + ahead_s  # type: ignore[method-assign]
    return leap
