"""The line in which the sessions of a team wait for slots, and this session's place in it.

A place is the time since when the first job of a session's queue waits, by the team's clock. The journal knows the
place of each session, and grants the slots in that order. When another session has made room, it wakes the first in the
line: that session is *called*, and asks for its turn without a refresh first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import attrs

from hailuo_async._engine.signal import Signal
from hailuo_async._engine.team_view import TeamView
from hailuo_async._io.journal.team_values import TeamStatus, Turn
from hailuo_async._rules.leases import CLOCK_SET_S
from hailuo_async._rules.line import Line


@attrs.define(eq=False)
class TeamLine:
    """Where this session stands in the line, and whom it waits for."""

    _view: TeamView
    _changed: Signal
    """Notified when this session begins to wait."""
    others: Line = attrs.field(factory=Line, init=False)
    """How the others stand in it, and whose turn it is."""
    waits_since: Callable[[], float | None] = attrs.field(default=lambda: None, init=False)
    """Since when the first of this session's queue waits, in loop time, if only the team's limits keep it."""
    is_called: bool = attrs.field(default=False, init=False)
    """Whether it may be the turn of this session."""
    _recorded: float | None = attrs.field(default=None, init=False)
    """The place that the journal knows."""
    _places: dict[float, float] = attrs.field(factory=dict, init=False)
    """The places of the jobs that wait, by loop time: each keeps its own, even if the clocks are corrected."""

    def in_team_time(self, since: float) -> float:
        """The place of a job that waits ``since`` that loop time.

        The same whenever it is asked, so that two sessions agree on who came first; but not if the team's clock was
        set: all that others ask for after it was set back would come first.
        """
        now, place = since + self._view.clock.offset_s, self._places.get(since, math.inf)
        if abs(place - now) > CLOCK_SET_S:
            self._places[since] = place = now
        return place

    def place(self) -> float | None:
        """This session's place; ``None`` if it does not wait for the team."""
        since = self.waits_since()
        return None if since is None else self.in_team_time(since)

    def turn_opens_at(self, now: float, room_at: float) -> float:
        """When this session may take a turn for which there is room at ``room_at``."""
        is_alone = room_at > now or self.others.first is None
        return self.others.opens_at(now, room_at, None if is_alone else self.place())

    # --- What the journal knows of it ---

    @property
    def needs_step(self) -> bool:
        """Whether the journal knows another place of this session."""
        return self._view.members > 1 and self._recorded != self.place()

    def stand(self) -> None:
        """Has a step made soon if another job is now the first of this session's queue."""
        if self.needs_step:
            self._view.commit_soon()
            self._changed.notify()

    def record(self, turns: Iterable[Turn]) -> float | None:
        """The place for a step with these ``turns``. The places of jobs that wait no longer are forgotten.

        ``None`` while no other session is there to wait behind this one: it takes its place as soon as one comes.
        """
        place = self.place()
        kept = {place, *(turn.place for turn in turns)}
        self._places = {since: place for since, place in self._places.items() if place in kept}
        self._recorded = place if self._view.members > 1 else None
        return self._recorded

    # --- What the others say ---

    def call(self) -> None:
        """It may be the turn of this session."""
        self.is_called = True

    def take_call(self) -> bool:
        """Whether it was called, and has not asked for its turn since."""
        was_called, self.is_called = self.is_called, False
        return was_called

    def apply(self, status: TeamStatus) -> None:
        """Learns how the line stands."""
        self.others.update(status.first, status.ahead)
        self._recorded = status.place
