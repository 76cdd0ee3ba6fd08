"""The line in which the sessions of a team wait for slots, as one of them knows it: whose turn it is, and for how long.

The first in the line takes its turn when there is room; the others wait for it. It may be stopped, so the next passes
over one that does not take its turn. The next waits ``PATIENCE_S`` for that, and each one behind it twice as long as
the one before it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import attrs

#: Seconds after which the next passes over the first. They double with each further place, so often at most.
PATIENCE_S, _MOST_DOUBLINGS = 1.0, 4
#: The session that becomes the first in the line is woken at once if a slot opens within so many seconds by the time
#: alone, as no step of another session will wake it then. Otherwise the step that makes room wakes it.
_SOON_S = 10.0

#: Where a session stood in the line before a step, and where it stands after it.
Moved: TypeAlias = tuple[float | None, float | None]


class Standing(NamedTuple):
    """A session that stands in the line."""

    place: float
    member: str


@attrs.define(eq=False)
class Line:
    """One session's view of the line. Places are in the team's time, all other times in the loop's."""

    ahead: int = attrs.field(default=0, init=False)
    """How many of the others wait longer."""
    first: Standing | None = attrs.field(default=None, init=False)
    """The first of the others."""
    _blocked_since: float | None = attrs.field(default=None, init=False)
    """Since when that one could have taken its turn, and this session waits only for it."""
    _passed: Standing | None = attrs.field(default=None, init=False)

    def update(self, first: Standing | None, ahead: int) -> None:
        """Notes how the line stands."""
        if first != self.first:
            self.first, self._blocked_since = first, None
        self.ahead = ahead

    def opens_at(self, now: float, room_at: float, place: float | None) -> float:
        """When this session, at ``place``, may take a turn for which there is room at ``room_at``."""
        if room_at > now or self.first is None or place is None or place <= self.first.place:
            self._blocked_since = None
            return room_at
        self._blocked_since = now if self._blocked_since is None else self._blocked_since
        opens_at = self._blocked_since + PATIENCE_S * 2.0 ** min(max(0, self.ahead - 1), _MOST_DOUBLINGS)
        self._passed = self.first if opens_at <= now else self._passed
        return opens_at

    def pass_over(self) -> Standing | None:
        """The session to pass over now, if any. Named once: if that has no effect, this session waits for it again."""
        passed, self._passed = self._passed, None
        if passed is not None:
            self._blocked_since = None
        return passed


def is_passed_over(first: Standing, passed: Standing | None) -> bool:
    """Whether the first in the line stands where it stood when it did not take its turn, and was ``passed``."""
    return passed is not None and first.member == passed.member and first.place <= passed.place


def whom_to_wake(first: Standing | None, moved: Moved, opens_in_s: float) -> frozenset[str]:
    """The first in the line, if there may be room for one more; or soon, and it was behind this session until now."""
    before, place = moved
    if first is None:
        return frozenset()
    has_given_way = before is not None and before <= first.place and (place is None or place > first.place)
    return frozenset([first.member] if opens_in_s <= (_SOON_S if has_given_way else 0.0) else ())
