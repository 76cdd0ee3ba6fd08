"""What a session learns from the tasks of the others in its team: how long they took."""

from __future__ import annotations

import logging

import attrs

from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.team import TeamState

logger = logging.getLogger("hailuo_async")


@attrs.define(eq=False)
class Lessons:
    """Adds the ends of the other sessions' tasks to this session's duration model."""

    _cadence: Cadence
    _learned: int | None = attrs.field(default=None, init=False)
    """How many ends had been taught when this session last learned."""
    _has_logged: bool = attrs.field(default=False, init=False)

    def learn(self, state: TeamState, us: str) -> None:
        """Learns what the other members of the team taught since the last call; ``us`` is the name of this session.

        Does not raise: what another session wrote may come from another version, and only polling gains by it.
        """
        seen, self._learned = self._learned, state.ended
        for end in state.ends_since(0 if seen is None else seen):
            if us.endswith(end.member):
                continue
            try:
                self._cadence.ended_elsewhere(end.kind, end.young_s, end.at_s, end.took_s)
            except Exception:
                if not self._has_logged:
                    self._has_logged = True
                    logger.exception("nothing was learned from how long a task of another session took: report this")
