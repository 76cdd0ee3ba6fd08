"""A session's view of its team: the state as it was last read, with what the session has done since.

The view answers at once: may a POST leave, may a query? The answer is a guess, as another session may have been
quicker. What the session has done since goes to the journal with its next step.

The state's times are the team's. They are ahead of the loop's by ``clock.offset_s``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random

import attrs

from hailuo_async._engine.clock import RemoteClock, loop_time
from hailuo_async._rules.team import Change, Held, TeamState, load_state

#: If no commit takes along what this session learned, a commit is made for it after so long.
_PUBLISH_S = 5.0
#: A server's time has ten digits before its point, so sums with it are only so exact.
_SUMS_ARE_OFF_BY_S = 1e-5


@attrs.define(eq=False)
class TeamView:
    """How the team stands, as far as this session knows. ``publish``, ``apply`` and the team's limits change it."""

    us: str
    """The name of this session."""
    _rng: Random
    commit_soon: Callable[[], None]
    """Has a commit begin soon, and with it a step."""
    state: TeamState = attrs.field(init=False)
    members: int = attrs.field(default=1, init=False)
    clock: RemoteClock = attrs.field(factory=RemoteClock, init=False)
    _unpublished: list[Change] = attrs.field(factory=list, init=False)
    _publishing: tuple[Change, ...] = attrs.field(default=(), init=False)
    """The changes of the step under way: a state that was read before it lacks them."""
    _publish_at: asyncio.TimerHandle | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.state = TeamState.new(self._rng)

    def in_loop_time(self, at: float, now: float) -> float:
        """The team's time ``at`` by the loop's clock: ``now`` if it has come, for what a sum of such times can show."""
        offset_s = self.clock.offset_s
        return now if at <= now + offset_s + _SUMS_ARE_OFF_BY_S else at - offset_s

    @property
    def stated(self) -> Held:
        """What this session holds, as its last step has stated it."""
        return self.state.held.get(self.us, Held())

    # --- What this session does ---

    def publish(self, change: Change, *, is_urgent: bool = True) -> None:
        """Applies ``change`` here at once, and in the journal with the next commit, which is soon if it is urgent."""
        change(self.state)
        self._unpublished.append(change)
        if is_urgent and self.members > 1:
            self.commit_soon()
        elif self._publish_at is None:
            self._publish_after(_PUBLISH_S)

    def _publish_after(self, delay_s: float) -> None:
        self._publish_at = asyncio.get_running_loop().call_later(delay_s, self._publish_now)

    def _publish_now(self) -> None:
        self._publish_at = None
        self.commit_soon()

    @property
    def needs_step(self) -> bool:
        """Whether there are changes that a commit has to take along."""
        return bool(self._unpublished) and (self.members > 1 or self._publish_at is None)

    def take_changes(self) -> tuple[Change, ...]:
        """The changes that no step has taken along, for one that does now."""
        changes = self._publishing = tuple(self._unpublished)
        self._unpublished.clear()
        if self._publish_at is not None:
            self._publish_at.cancel()
            self._publish_at = None
        return changes

    def publish_again(self, changes: Iterable[Change], delay_s: float) -> None:
        """Takes back the changes of a step that is not on record, for another one in ``delay_s``."""
        self._unpublished[:0], self._publishing = changes, ()
        if self._publish_at is None:
            self._publish_after(delay_s)

    def forget_changes(self) -> None:
        """Forgets the changes that no step has taken along: the clock was set back, and their times are ahead."""
        self._unpublished.clear()

    # --- What this session learns ---

    def stepped(self, held: Held) -> None:
        """Notes what the team knows now of what this session holds: the step under way was answered."""
        self.state.held[self.us], self._publishing = held, ()

    def apply(self, state: str | None, members: int, tentative: int) -> None:
        """Takes the ``state`` that was read, if it is new, and does again what it does not count yet.

        So many POSTs are ``tentative``: they may leave by the view, and their grants are asked for.
        """
        self.members = members
        if state is None:
            return
        self.state = load_state(state, self._rng)
        for change in (*self._publishing, *self._unpublished):
            change(self.state)
        for _ in range(tentative):
            self.state.submit_leaves(loop_time() + self.clock.offset_s)
