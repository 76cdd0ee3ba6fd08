"""What a session learns of its team: from each answer to a step, to a renewal of its leases, and to a refresh.

``TeamMonitor`` refreshes, and goes by what is noted here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.lessons import Lessons
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.team_limits import TeamSlots
from hailuo_async._engine.team_line import TeamLine
from hailuo_async._engine.team_view import TeamView
from hailuo_async._io.journal.team_values import Renewed, TeamStatus
from hailuo_async._rules.leases import CLOCK_SET_S

#: Others have probably made steps if no update came for so long.
_STALE_S = 0.25


@attrs.define(eq=False)
class TeamUpdates:
    """Passes on each update, and notes what the last one said, and when it came."""

    _view: TeamView
    _line: TeamLine
    _slots: TeamSlots
    _lessons: Lessons
    changed: Signal
    """Notified when one of the fields below has changed, or this session begins to wait."""
    on_change: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when what could not leave before may now."""
    on_death: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when another session has left the team, or died."""
    updated_at: float = attrs.field(default=-math.inf, init=False)
    """When this session last learned how its team stands, or began to refresh."""
    lapses_at: float = attrs.field(default=math.inf, init=False)
    """When the first lease of another member runs out, if it is not renewed."""
    has_orphans: bool = attrs.field(default=False, init=False)
    """Whether some task may have no session that waits for it, or only seem to have this one."""
    doubts_claims: bool = attrs.field(default=False, init=False)
    """Whether this session may hold a task that no part of it waits for: who claimed it was cancelled meanwhile."""
    is_woken: bool = attrs.field(default=False, init=False)
    """Whether another session has changed something that this one may wait for."""
    _gone: int | None = attrs.field(default=None, init=False)

    def is_stale(self, now: float) -> bool:
        """Whether other sessions have probably made steps since."""
        return now - self.updated_at > _STALE_S

    def apply(self, status: TeamStatus) -> None:
        """Learns how the team stands."""
        before, gone = self._view.members, self._gone
        self._line.apply(status)
        self._view.apply(status.state, status.members, self._slots.tentative)
        if status.state is not None:
            self._lessons.learn(self._view.state, self._view.us)
        if before == 1 < status.members:  # the newcomer is to know what this one has
            self._view.commit_soon()
        self.updated_at, self._gone = loop_time(), status.gone
        self.lapses_at = math.inf if status.lapses_in_s is None else self.updated_at + status.lapses_in_s
        if before > 1 or self.lapses_at < math.inf or self.has_orphans:  # a session alone has no others to watch
            self.changed.notify()
        self.on_change()
        # Another session may have passed this one over; jobs that were granted nothing are soon back in the queue.
        asyncio.get_running_loop().call_soon(self._line.stand)
        if before > status.members or gone not in (None, status.gone):  # one may have come at the same time
            self.on_death()

    def renewed(self, renewed: Renewed) -> None:
        """Learns what the renewal of this session's leases has found."""
        self.has_orphans = renewed.has_orphans or self.doubts_claims
        self.apply(renewed.status)
        # A session that waits behind others may not refresh at all, and its steps have the times of this clock.
        if renewed.at is not None and abs(renewed.at - loop_time() - self._view.clock.offset_s) > CLOCK_SET_S:
            self.refresh_soon()

    def refresh_soon(self) -> None:
        """Has the team monitor refresh at once."""
        self.is_woken = True
        self.changed.notify()

    def begin_refresh(self) -> None:
        """Notes that a refresh begins."""
        self.is_woken, self.updated_at = False, loop_time()

    def begin_take_over(self) -> None:
        """Notes that this session now takes over what was left."""
        self.has_orphans = False

    def doubt_claims(self) -> None:
        """Has this session take over again what it holds."""
        self.doubts_claims = self.has_orphans = True
        self.changed.notify()
