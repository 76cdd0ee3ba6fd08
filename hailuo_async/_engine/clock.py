"""The one clock of the engine, its loop's; the machine's, for records; and how far a server's is ahead."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import attrs

#: A clock that goes on while the machine is suspended, where ``time.monotonic`` stands still: Linux, or else macOS.
_NEVER_STILL: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
#: A server's clock may be set: after so long its answer counts, however long it took.
_OLD_S = 60.0


def loop_time() -> float:
    """Seconds of the running loop.

    The same as ``anyio.current_time``, at a fifth of its price. Works in a timer's callback as well: that runs outside
    any task, where anyio finds no loop.
    """
    return asyncio.get_running_loop().time()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of the calling thread; ``None`` in a thread that runs none, where asyncio raises."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def running_clock() -> Callable[[], float]:
    """The running loop's clock, for a room that reads it often: to find the loop takes CPython 3.11 a system call."""
    return asyncio.get_running_loop().time


def lease_time() -> float:
    """Seconds by which leases run out: those of the loop, and those in which the machine was suspended."""
    return loop_time() + suspended_s()


def suspended_s() -> float:
    """Seconds that the machine was suspended since it was started: the loop's clock stands still meanwhile."""
    awake_s = time.monotonic()  # read first: for a process that is stopped here, a lease runs out rather than on
    return 0.0 if _NEVER_STILL is None else time.clock_gettime(_NEVER_STILL) - awake_s


def wall_clock() -> float:
    """Unix seconds by this machine's clock: for records that people read, and what is compared with them."""
    return time.time()


@attrs.define(eq=False)
class RemoteClock:
    """A server's clock, estimated from its answers: each is taken to show the time in the middle of its round trip."""

    offset_s: float = attrs.field(default=0.0, init=False)
    """How far it is ahead of the loop's."""
    _trip_s: float = attrs.field(default=math.inf, init=False)
    _learned_at: float = attrs.field(default=-math.inf, init=False)

    def is_old(self, now: float) -> bool:
        """Whether it has to be read again: it was read long ago, and may have been set since."""
        return self._trip_s < math.inf and now - self._learned_at > _OLD_S

    def learn(self, at: float | None, began_at: float, now: float) -> None:
        """Learns that the server's clock showed ``at`` (``None``: unknown) in a request begun at ``began_at``.

        The shortest round trip gives the best value. A value that is off by more than two trips can explain is taken at
        once: that clock was set.
        """
        if at is None:
            return
        trip_s, offset_s = now - began_at, at - (now + began_at) / 2
        was_set = abs(offset_s - self.offset_s) > trip_s + self._trip_s
        if trip_s <= 2 * self._trip_s or was_set or now - self._learned_at > _OLD_S:
            self.offset_s, self._trip_s, self._learned_at = offset_s, trip_s, now
