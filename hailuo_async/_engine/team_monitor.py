"""Keeps a session up to date with its team, and takes over the tasks of members that die.

A session refreshes what it knows of its team by reading it from the journal: mostly when another session wakes it,
otherwise as seldom as can be. Others wake it when its turn may have come, and when a job that it follows may have
changed. Each answer to a step, and to the renewal of the leases, also says how the team stands. So a session with
nothing to do refreshes only when it is woken. A wake-up may get lost, so these refresh now and then:

- Sessions that wait, at intervals that double with each session ahead. So however many wait, they refresh at most twice
  in ``REFRESH_S``, all together.
- Sessions that follow jobs of others, every ``FOLLOW_S``.
- All sessions, often, on a system that cannot wake them. Reading a file that has not changed costs microseconds.

Each refresh also says when the first lease of another member runs out. Then the session refreshes again. If the member
is dead, the session takes over its tasks.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from random import Random

import anyio
import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.following import Following
from hailuo_async._engine.team import Team
from hailuo_async._io.journal.records import LEASE_S, Record
from hailuo_async._io.journal.team_link import TeamLink
from hailuo_async._io.journal.team_values import Refreshed
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.leases import CLOCK_SET_S
from hailuo_async._rules.task_ids import is_task_id
from hailuo_async.errors import JournalError

#: The first in the line refreshes so often at least, and each behind it half as often as the one before it; and a
#: session that follows jobs.
REFRESH_S, FOLLOW_S = 2.0, 1.0
#: The same where no session can be woken: one that follows jobs, and any other.
ASLEEP_FOLLOW_S, ASLEEP_REFRESH_S = 0.05, 1.0
#: Refreshes at longer intervals are left out: the renewals of leases come more often, and say the same.
_LONGEST_S = LEASE_S / 3
#: Seconds, drawn at random, until what a dead member left is looked for; more where there are more members. So one of
#: them finds it, not all at once.
_SOONEST_S, _LATEST_S, _FOR_EACH_S = 0.1, 3.0, 0.1

logger = logging.getLogger("hailuo_async")


@attrs.define(eq=False)
class TeamMonitor:
    """Refreshes what a session knows of its team, and takes over from members that die."""

    _team: Team
    _journal: JournalWriter
    _rng: Random
    _following: Following
    """Given the jobs that changed, while any are followed here."""
    _on_notice: Callable[[str], object]
    """Gets each notice that other sessions pass on."""
    _on_taken: Callable[[Record], Awaitable[object]]
    """Given each task that a dead session left, and that is this session's now."""
    _seen: int | None = attrs.field(default=None, init=False)
    """The number of the change with which the next refresh begins."""
    _gone: int | None = attrs.field(default=None, init=False)
    """How many rows had been deleted by the last refresh. After a deletion, later changes may have lower numbers."""

    # --- Refreshing ---

    async def join(self) -> None:
        """Becomes a member. Raises ``JournalError``."""
        began_at = loop_time()
        refreshed = await self._journal.join(self._team)
        self._learn(refreshed, began_at)
        if refreshed.at is not None:
            await self._refresh()  # one round trip: it shows the time better than the joining did

    async def keep_fresh(self) -> None:
        """Refreshes when it is woken, and now and then, until it is cancelled."""
        updates = self._team.updates
        while True:
            while not updates.is_woken and (left_s := updates.updated_at + self._refresh_after_s() - loop_time()) > 0:
                await updates.changed.wait(left_s)
            with contextlib.suppress(JournalError):  # an outage: each write that waits for the journal reports it
                await self._refresh()

    def _refresh_after_s(self) -> float:
        """Seconds until the next refresh, if no update comes before."""
        follows = len(self._following) > 0
        if not self._link.can_be_woken:
            return ASLEEP_FOLLOW_S if follows else ASLEEP_REFRESH_S
        after_s = FOLLOW_S if follows else math.inf
        if self._team.view.members > 1 and self._team.line.waits_since() is not None:
            after_s = min(after_s, REFRESH_S * 2 ** min(self._team.line.others.ahead, 16))
        return after_s if after_s < _LONGEST_S else math.inf

    async def _refresh(self) -> None:
        began_at = loop_time()
        self._team.updates.begin_refresh()
        refreshed = await self._link.refresh(self._seen if len(self._following) else None)
        if refreshed is not None:
            has_lost_rows = refreshed.status.gone != self._gone
            self._learn(refreshed, began_at)
            self._following.apply(refreshed.changes)
            if refreshed.is_anew or has_lost_rows:
                self._following.check_all()
            for task_id in filter(is_task_id, refreshed.notices):
                self._on_notice(task_id)
        self._team.follow(len(self._following) > 0)

    def _learn(self, refreshed: Refreshed, began_at: float) -> None:
        clock, before_s = self._team.view.clock, self._team.view.clock.offset_s
        clock.learn(refreshed.at, began_at, loop_time())
        if clock.offset_s < before_s - CLOCK_SET_S:
            self._team.view.forget_changes()
        self._seen, self._gone = refreshed.seen, refreshed.status.gone
        self._team.updates.apply(refreshed.status)

    @property
    def _link(self) -> TeamLink:
        if self._journal.team is None:
            raise RuntimeError("a team was asked before it was joined")
        return self._journal.team

    # --- Those who die ---

    async def take_over_from_the_dead(self) -> None:
        """Takes over what dead sessions have left, at once and whenever one dies, until it is cancelled."""
        while True:
            try:
                await self._take_over()
                await self._wait_for_a_death()
            except JournalError as error:
                logger.warning("%s; what other sessions have left is taken over later", error)
                await anyio.sleep(LEASE_S / 3)

    async def _take_over(self) -> None:
        updates = self._team.updates
        updates.begin_take_over()
        again, updates.doubts_claims = updates.doubts_claims, False
        try:
            records, dead = await self._journal.take_over(again=again)
        except BaseException:
            updates.doubts_claims = updates.doubts_claims or again
            raise
        for record in records:
            await self._on_taken(record)
        if dead:
            self._team.bury(dead)

    async def _wait_for_a_death(self) -> None:
        """Returns when a lease of another member has run out, or a task was left; at the soonest in a moment."""
        updates = self._team.updates
        late_s = self._rng.uniform(_SOONEST_S, max(_LATEST_S, _FOR_EACH_S * self._team.view.members))
        await anyio.sleep(late_s)
        while not updates.has_orphans:
            left_s = updates.lapses_at + late_s - loop_time()
            if left_s > 0:
                await updates.changed.wait(left_s)
                continue
            await self._refresh()  # another session may have taken it all over
            if updates.lapses_at <= loop_time():
                return
