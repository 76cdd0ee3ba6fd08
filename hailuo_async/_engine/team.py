"""A session's part in its team: what it publishes to the others, and how it asks for its share.

Without a journal a session is a team of its own: the gate asks ``Slots`` and ``RateLimiter`` themselves. Sessions that
share a journal share one ``TeamState``, which lies in it. Between that and the gate stand:

- ``TeamView``: a copy of the state, with what this session has done since. A guess.
- ``TeamLine``: where this session stands in the line for slots.
- ``TeamSlots`` and ``TeamRateLimiter``: what the gate asks, and what this session holds.
- ``TeamUpdates``: what this session learns of the others.
- ``Team``: what this session did, and what it wants, as one ``Step`` with the next commit. There a POST is granted
  together with the record of its intent, on the state as it stands, behind sessions that came first.

Between steps ``TeamMonitor`` refreshes what is known of the team, mostly when it is woken.
"""

from __future__ import annotations

import asyncio
import functools
from random import Random
from typing import TypeAlias

import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.lessons import Lessons
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.team_limits import TeamRateLimiter, TeamSlots
from hailuo_async._engine.team_line import TeamLine
from hailuo_async._engine.team_updates import TeamUpdates
from hailuo_async._engine.team_view import TeamView
from hailuo_async._io.journal.records import Permit
from hailuo_async._io.journal.team_values import Renewed, Step, StepDone, Turn
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.team import End, Held, TeamState

#: A session that was called to its turn, and has not asked for it after so long, refreshes instead.
_CALLED_S = 0.5
#: So many letters at the end of a session's name distinguish it from others.
_NAME_LETTERS = 8
#: A step that failed is made again after so long.
_AGAIN_S = 1.0

_AskedTurn: TypeAlias = tuple[Turn, asyncio.Future[Permit]]


@attrs.define(eq=False)
class Team:
    """What this session publishes to its team, and asks of it."""

    _journal: JournalWriter
    view: TeamView
    line: TeamLine
    slots: TeamSlots
    rate_limiter: TeamRateLimiter
    updates: TeamUpdates
    _turns: list[_AskedTurn] = attrs.field(factory=list, init=False)
    _stepping: list[_AskedTurn] | None = attrs.field(default=None, init=False)
    """Those of the step under way, if there is one."""
    _buried: tuple[str, ...] = attrs.field(default=(), init=False)
    _follows: bool = attrs.field(default=False, init=False)
    """Whether this session follows jobs of others: they wake it when one has changed."""

    @classmethod
    def make(cls, journal: JournalWriter, ceiling: int | None, rng: Random, cadence: Cadence) -> Team:
        """A session's part in the team that shares ``journal``. The session runs at most ``ceiling`` tasks itself."""
        changed = Signal()
        view = TeamView(journal.holder, rng, journal.commit_soon)
        line = TeamLine(view, changed)
        slots = TeamSlots(view, line, ceiling)
        updates = TeamUpdates(view, line, slots, Lessons(cadence), changed)
        return cls(journal, view, line, slots, TeamRateLimiter(view), updates)

    @property
    def all_running(self) -> int:
        """POSTs and tasks of the whole team, as far as this session knows."""
        return self.view.state.slots.running

    # --- What the rooms of the engine publish and ask ---

    def follow(self, is_followed: bool = True) -> None:
        """Has the others wake this session when a job has changed, as long as it follows any."""
        self._follows = is_followed
        if self._follows != self.view.stated.follows:
            self.view.commit_soon()

    def ask_to_send(self, identity: str, sent_at: float, since: float) -> asyncio.Future[Permit]:
        """Asks for the grant of one POST, and for the record of its intent, in one step. Does not wait.

        ``sent_at`` is in Unix seconds; the job waits ``since`` that loop time. The answer raises ``JournalError`` if
        neither can be had.
        """
        answer: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._turns.append((Turn(identity, sent_at, self.line.in_team_time(since)), answer))
        self.view.commit_soon()
        return answer

    def ended(self, kind: tuple[object, ...], young_s: float, at_s: float, took_s: float) -> None:
        """Publishes how long a task took: briefly, as each of them reads it at each of its steps."""
        us = self.view.us[-_NAME_LETTERS:]
        end = End(us, kind, round(young_s, 3), round(at_s, 3), round(took_s, 3))
        self.view.publish(functools.partial(TeamState.teach, end=end), is_urgent=False)

    def bury(self, members: tuple[str, ...]) -> None:
        """Frees what dead members held: a session has taken over their tasks."""
        at = loop_time() + self.view.clock.offset_s
        self._buried = members
        for member in members:
            self.view.publish(functools.partial(TeamState.bury, member=member, now=at))

    # --- Steps ---

    def compose(self) -> Step | None:
        """The step for the next commit; ``None`` if all that there is to say can wait."""
        if self._stepping is not None or not (
            self._turns
            or self.rate_limiter.is_query_due
            or self.view.needs_step
            or self.line.needs_step
            or self._follows != self.view.stated.follows
        ):
            return None
        self._stepping, self._turns = sorted(self._turns, key=lambda asked: asked[0].place), []
        turns, now = tuple(turn for turn, _ in self._stepping), loop_time()
        buried, self._buried = self._buried, ()
        return Step(
            now=now + self.view.clock.offset_s,
            held=Held(self.slots.inflight, self.slots.settled, self.rate_limiter.requests, self._follows),
            changes=self.view.take_changes(),
            turns=turns,
            queries=self.rate_limiter.wants(now, is_soon=self.slots.settled > 0),
            is_query_due=self.rate_limiter.is_query_due,
            place=self.line.record(turns),
            passed=self.line.others.pass_over(),
            buried=buried,
            is_called=self.line.take_call(),
            is_stale=self.view.members > 1 and self.updates.is_stale(now),
        )

    def stepped(self, step: Step, done: StepDone) -> None:
        """Acts on the answer to a step."""
        stepping, self._stepping = self._stepping or [], None
        follows_now = step.held.follows and not self.view.stated.follows
        granted = len(done.permits) - done.permits.count(Permit.LATER)
        self.view.stepped(step.held)
        if not done.is_made and not done.is_void:
            self.view.publish_again(step.changes, _AGAIN_S)
        self.slots.answered(len(done.permits), granted)
        self.rate_limiter.answered(self.view.in_loop_time(done.query_at, loop_time()), done.queries, granted)
        for (turn, answer), permit in zip(stepping, done.permits, strict=True):
            if not answer.done():
                answer.set_result(permit)
            elif permit is Permit.GRANTED:  # its caller has left: no POST follows
                self._give_back(turn)
        self.updates.apply(done.status)
        if done.needs_refresh or (follows_now and self.view.stated.follows):
            self.updates.refresh_soon()  # what changed before the others knew has not woken this session

    def _give_back(self, turn: Turn) -> None:
        """Gives back a granted POST whose caller has left meanwhile."""
        now = loop_time()
        self._journal.unsent_nowait(turn.identity, turn.sent_at)
        self.slots.released()
        self.rate_limiter.learn(now, RateHeaders(), now)

    def failed(self, step: Step, error: Exception) -> None:
        """The step is probably not on disk: its changes go into the next step, and it granted nothing."""
        stepping, self._stepping = self._stepping or [], None
        now = loop_time()
        self.view.publish_again(step.changes, _AGAIN_S)
        self.slots.answered(len(stepping), 0)
        self.rate_limiter.answered(now + _AGAIN_S)
        for _, answer in stepping:
            self.view.state.submit_stayed(now + self.view.clock.offset_s)
            if not answer.done():
                answer.set_exception(error)
        self.updates.on_change()

    # --- What comes without a step ---

    def renewed(self, renewed: Renewed) -> None:
        """Notes that the leases of this session were renewed."""
        self.updates.renewed(renewed)

    def woken(self) -> None:
        """Notes that another session has changed something that this one may wait for."""
        now = loop_time()
        asks = self._stepping is not None or self.slots.tentative or self.line.is_called
        is_up_to_date = not self.updates.is_stale(now)  # the turn for which it is woken may be over
        if asks or is_up_to_date or self._follows or self.line.waits_since() is None or self.view.clock.is_old(now):
            self.updates.refresh_soon()
            return
        self.line.call()
        asyncio.get_running_loop().call_later(_CALLED_S, self._call_ends)
        self.updates.on_change()

    def _call_ends(self) -> None:
        if self.line.take_call():
            self.updates.refresh_soon()
