"""When a session looks at its team: mostly when another session wakes it, otherwise as seldom as can be.

Other sessions wake this one when its turn may have come, and when a job may have changed that it follows. Each answer
to a step, and to the renewal of the leases, also says how the team stands. So a session with nothing to do never looks
unless it is woken. A wake-up may get lost, so these look now and then:

- Who waits, at intervals that double with each session that waits longer. So however many sessions wait, they look at
  most twice in ``LOOK_S``, all together.
- Who follows jobs of others, every ``FOLLOW_S``.
- Everybody, often, on a system that cannot wake sessions. A look at a file that has not changed costs microseconds.

Each look also tells when the first lease of another member runs out. A session looks again then: who finds the member
dead takes over its tasks.
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
from hailuo_async._io.journal.team_values import Looked
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.task_ids import is_task_id
from hailuo_async.errors import JournalError

#: The first in the line looks so often at least, and each behind it half as often as the one before it; and a session
#: that follows jobs.
LOOK_S, FOLLOW_S = 2.0, 1.0
#: The same where no session can be woken: one that follows jobs, and any other.
ASLEEP_FOLLOW_S, ASLEEP_LOOK_S = 0.05, 1.0
#: Looks at longer intervals are left out: the renewals of leases come more often, and bring the same news.
_LONGEST_S = LEASE_S / 3
#: Seconds, drawn at random, until what a dead member left is looked for; more where there are more members. So one of
#: them finds it, not all at once.
_SOONEST_S, _LATEST_S, _FOR_EACH_S = 0.1, 3.0, 0.1

logger = logging.getLogger("hailuo_async")


@attrs.define(eq=False)
class Lookout:
    """A session's looks at its team, and at the members that die."""

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
    """Where the next look for changed jobs begins."""
    _gone: int | None = attrs.field(default=None, init=False)
    """How many rows had been deleted by the last look. After a deletion, later changes may have lower numbers."""

    # --- Looks ---

    async def join(self) -> None:
        """Becomes a member. Raises ``JournalError``."""
        began_at = loop_time()
        looked = await self._journal.join(self._team)
        self._learn(looked, began_at)
        if looked.at is not None:
            await self._look()  # one round trip: it tells the time better than the joining did

    async def watch(self) -> None:
        """Looks when it is woken, and now and then, until it is cancelled."""
        news = self._team.news
        while True:
            while not news.is_woken and (left_s := news.heard_at + self._look_after_s() - loop_time()) > 0:
                await news.changed.wait(left_s)
            with contextlib.suppress(JournalError):  # an outage: each write that waits for the journal reports it
                await self._look()

    def _look_after_s(self) -> float:
        """Seconds until the next look, if nothing is heard before."""
        follows = len(self._following) > 0
        if not self._link.can_be_woken:
            return ASLEEP_FOLLOW_S if follows else ASLEEP_LOOK_S
        after_s = FOLLOW_S if follows else math.inf
        if self._team.view.members > 1 and self._team.line.waits_since() is not None:
            after_s = min(after_s, LOOK_S * 2 ** min(self._team.line.others.ahead, 16))
        return after_s if after_s < _LONGEST_S else math.inf

    async def _look(self) -> None:
        began_at = loop_time()
        self._team.news.begin_look()
        looked = await self._link.look(self._seen if len(self._following) else None)
        if looked is not None:
            has_lost_rows = looked.news.gone != self._gone
            self._learn(looked, began_at)
            self._following.hear(looked.changes)
            if looked.is_anew or has_lost_rows:
                self._following.ask_all()
            for task_id in filter(is_task_id, looked.notices):
                self._on_notice(task_id)
        self._team.follow(len(self._following) > 0)

    def _learn(self, looked: Looked, began_at: float) -> None:
        self._team.view.clock.learn(looked.at, began_at, loop_time())
        self._seen, self._gone = looked.seen, looked.news.gone
        self._team.news.hear(looked.news)

    @property
    def _link(self) -> TeamLink:
        if self._journal.team is None:
            raise RuntimeError("a team was asked before it was joined")
        return self._journal.team

    # --- Those who die ---

    async def look_after_the_dead(self) -> None:
        """Takes over what dead sessions have left, at once and whenever one dies, until it is cancelled."""
        while True:
            try:
                await self._take_over()
                await self._someone_dies()
            except JournalError as error:
                logger.warning("%s; what other sessions have left is taken over later", error)
                await anyio.sleep(LEASE_S / 3)

    async def _take_over(self) -> None:
        news = self._team.news
        news.begin_take_over()
        again, news.doubts_claims = news.doubts_claims, False
        try:
            records, dead = await self._journal.take_over(again=again)
        except BaseException:
            news.doubts_claims = news.doubts_claims or again
            raise
        for record in records:
            await self._on_taken(record)
        if dead:
            self._team.bury(dead)

    async def _someone_dies(self) -> None:
        """Returns when a lease of another member has run out, or a task was left; at the soonest in a moment."""
        news = self._team.news
        late_s = self._rng.uniform(_SOONEST_S, max(_LATEST_S, _FOR_EACH_S * self._team.view.members))
        await anyio.sleep(late_s)
        while not news.has_orphans:
            left_s = news.lapses_at + late_s - loop_time()
            if left_s > 0:
                await news.changed.wait(left_s)
                continue
            await self._look()  # another session may have taken it all over
            if news.lapses_at <= loop_time():
                return
